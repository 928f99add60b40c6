/**
 * The entry that lets a person in. `type=plain`: schroot then runs no setup scripts at all (a `directory` entry
 * would run them on every command, 24 times slower) and only enters.
 */
import type { Host } from '../linux/host.ts';
import type { Session } from '../state/sessions.ts';

/** Names in chroot.d must follow run-parts(8); ours are told from others by prefix and by the directory inside. */
const PREFIX = 'mayfly-';

export function entryPath(directory: string, id: string): string {
  return `${directory}/${PREFIX}${id}`;
}

/** The entry of a session: nobody but the user and `rootUsers` may enter. */
export function renderEntry(s: Session, rootUsers: readonly string[]): string {
  return [
    `[${s.id}]`,
    'type=plain',
    `description=mayfly ${s.kind === 'run' ? 'throw-away session' : 'session'} of ${s.user.name}, generation ${s.generation}`,
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

/** Ids of entries whose directory lies below our mount points: another Mayfly's are not ours. */
export function listEntries(host: Host, directory: string, roots: string): string[] {
  return host
    .list(directory)
    .filter(name => name.startsWith(PREFIX))
    .map(name => name.slice(PREFIX.length))
    .filter(id => host.read(entryPath(directory, id))?.includes(`\ndirectory=${roots}/${id}\n`));
}
