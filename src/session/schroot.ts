/**
 * The schroot entry of a session. With `type=plain`, schroot runs no setup scripts and only enters; a `directory`
 * entry would run them for every command, which is 24 times slower.
 */
import type { Host } from '../linux/host.ts';
import { isSessionId } from '../names.ts';
import type { Session } from '../state/sessions.ts';

/**
 * Names in chroot.d must follow run-parts(8). Our entries have this prefix and a directory below our mount points.
 */
const PREFIX = 'mayfly-';

/** Path of the entry of session `id`; `directory` is schroot's chroot.d. */
export function entryPath(directory: string, id: string): string {
  return `${directory}/${PREFIX}${id}`;
}

/** Text of a session's entry. Only the user and `rootUsers` (names and "@group") may enter. Pure. */
export function renderEntry(s: Session, rootUsers: readonly string[]): string {
  return [
    `[${s.id}]`,
    'type=plain',
    `description=mayfly ${s.kind === 'run' ? 'temporary session' : 'session'} of ${s.user.name}, generation ${s.generation}`,
    `directory=${s.root}`,
    `users=${s.user.name}`,
    `root-users=${rootUsers.filter(u => !u.startsWith('@') && u !== '*').join(',')}`,
    `root-groups=${rootUsers
      .filter(u => u.startsWith('@'))
      .map(u => u.slice(1))
      .join(',')}`,
    '',
  ].join('\n');
}

/**
 * IDs of the entries whose directory is below `roots`; entries of another Mayfly instance are left out. An empty one is ours:
 * entries appear complete, so it has lost its text in a power cut. If it was another instance's, its session is over too.
 */
export function listEntries(host: Host, directory: string, roots: string): string[] {
  return host
    .list(directory)
    .filter(name => name.startsWith(PREFIX))
    .map(name => name.slice(PREFIX.length))
    .filter(id => {
      const text = host.read(entryPath(directory, id));
      return text?.includes(`\ndirectory=${roots}/${id}\n`) || (text === '' && isSessionId(id));
    });
}
