/**
 * Changes to the configuration of other programs, as data: planned without an effect, told in one line each, done one
 * by one. Every one of them is a single rename, removal or entry of dpkg's, so what is done is always done whole.
 */
import { MayflyError } from '../errors.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';

/** One change. `why` is for the person who reads along. */
export type Change = { readonly path: string; readonly why: string } & (
  | { readonly act: 'mkdir' }
  | { readonly act: 'rmdir' }
  | { readonly act: 'write'; readonly text: string; readonly mode: number }
  | { readonly act: 'remove' }
  | { readonly act: 'reload' }
  /** `line`: what the profile's line in the stack names. */
  | { readonly act: 'profile'; readonly line: string; readonly on: boolean }
  | { readonly act: 'rename'; readonly to: string }
  | { readonly act: 'divert' | 'undivert'; readonly to: string }
);

/** What stands at a path; `text` where it can be read. */
export interface Found {
  readonly kind: 'file' | 'link';
  readonly text: string;
  readonly mode: number;
}

/** What stands at `path`, a symlink itself and not what it points at; anything but a file or a symlink is refused. */
export function readTarget(host: Host, path: string): Found | undefined {
  const s = host.lstat(path);
  if (!s) return undefined;
  if (s.kind !== 'file' && s.kind !== 'link')
    throw new MayflyError('unsafe', `"${path}" is not a file`, { path });
  return { kind: s.kind, text: host.pathType(path) === 'other' ? (host.read(path) ?? '') : '', mode: s.mode };
}

/** Line numbers, from 0, of a text's lines that name `what`; comments are none. */
export function linesWith(text: string, what: string): number[] {
  return text.split('\n').flatMap((line, i) => (!/^\s*#/.test(line) && line.includes(what) ? [i] : []));
}

/** A change in one line. */
export function describeChange(c: Change): string {
  const verbs = {
    mkdir: 'make the directory',
    rmdir: 'remove the directory',
    write: 'write',
    remove: 'remove',
    reload: 'take up',
    profile:
      c.act === 'profile' && c.on ? 'add the profile of Mayfly to' : 'take the profile of Mayfly out of',
    rename: 'rename',
    divert: 'divert',
    undivert: 'end the diversion of',
  };
  const to = c.act === 'rename' || c.act === 'divert' ? ` to ${c.to}` : '';
  return `${verbs[c.act]} ${c.path}${to}: ${c.why}`;
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

/** Refuses a directory below /etc that is a symlink, or lies behind one: what is written there would land elsewhere. */
function checkParents(host: Host, path: string): void {
  for (let at = parentOf(path); at.startsWith('/etc/'); at = parentOf(at)) {
    const kind = host.lstat(at)?.kind;
    if (kind === undefined || kind === 'dir') continue;
    throw new MayflyError('unsafe', `"${at}" is not a directory of its own; nothing is written below it`, {
      path: at,
    });
  }
}

/** Refuses, before anything is done, changes that would lead out of the directories they name. */
export function checkChanges(host: Host, changes: readonly Change[]): void {
  for (const c of changes) if (c.act !== 'divert' && c.act !== 'undivert') checkParents(host, c.path);
}

/** Removes what a death in the middle of writing `path` left beside it. */
export function sweepBeside(host: Host, path: string): void {
  const directory = parentOf(path);
  if (host.lstat(directory)?.kind === 'dir')
    sweepTemporary(host, directory, `${path.slice(directory.length + 1)}.`);
}

/** Does one change, so that it outlives a power cut. */
export async function perform(host: Host, c: Change): Promise<void> {
  const directory = parentOf(c.path);
  if (c.act === 'mkdir') host.mkdir(c.path, 0o755);
  else if (c.act === 'rmdir') host.rmdir(c.path);
  else if (c.act === 'write') {
    host.write(c.path, c.text, { mode: c.mode, uid: 0, gid: 0, durable: true });
    return;
  } else if (c.act === 'remove') host.unlink(c.path);
  else if (c.act === 'rename') host.rename(c.path, c.to);
  else if (c.act === 'reload') {
    await host.run({ file: 'systemctl', args: ['daemon-reload'], effect: 'write' });
    return;
  } else if (c.act === 'profile') {
    await changeProfile(host, c);
    return;
  } else {
    // Only dpkg's entry: the renames are ours, so that each is a change of its own and can be made up for.
    const verb = c.act === 'divert' ? '--add' : '--remove';
    const args = ['--package', 'mayfly', verb, '--no-rename', '--divert', c.to, c.path];
    await host.run({ file: 'dpkg-divert', args, effect: 'write' });
    return;
  }
  host.sync(directory);
}

/**
 * Has pam-auth-update(8) write PAM's stack with or without our profile. It leaves a stack with modules of the
 * administrator's own between its lines as it is, and says so with success.
 */
async function changeProfile(
  host: Host,
  { path, line, on }: Extract<Change, { act: 'profile' }>,
): Promise<void> {
  const verb = on ? '--enable' : '--disable';
  const args = ['DEBIAN_FRONTEND=noninteractive', 'pam-auth-update', verb, 'mayfly'];
  const text = host.read(path) ?? '';
  const own = new Set(linesWith(text, line));
  const rest = text.split('\n').filter((_, i) => !own.has(i));
  const after = (on ? [line, ...rest] : rest).join('\n');
  await host.run({ file: 'env', args, effect: 'write', simulate: view => view.write(path, after) });
  if (linesWith(host.read(path) ?? '', line).length > 0 === on) return;
  throw new MayflyError('refused', `"${path}" was changed by hand, and pam-auth-update leaves it as it is`, {
    path,
    hint: `pam-auth-update --force ${verb} mayfly, which keeps what is there as ${path}.pam-old; then type it again`,
  });
}
