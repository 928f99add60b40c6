/**
 * Changes to the configuration of other programs, as data: planned without an effect, described in one line each, and
 * performed one by one. Each is a single rename, removal or dpkg diversion, so none can be left half done.
 */
import { MayflyError } from '../errors.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';

/** One change. `why` explains it to the administrator. */
export type Change = { readonly path: string; readonly why: string } & (
  | { readonly act: 'mkdir' }
  | { readonly act: 'rmdir' }
  | { readonly act: 'write'; readonly text: string; readonly mode: number }
  | { readonly act: 'remove' }
  | { readonly act: 'reload' }
  /** `line`: the text by which the profile's line in the PAM stack is recognized. */
  | { readonly act: 'profile'; readonly line: string; readonly on: boolean }
  | { readonly act: 'rename'; readonly to: string }
  | { readonly act: 'divert' | 'undivert'; readonly to: string }
);

/** What exists at a path; `text` is empty for a symlink that leads to no file. */
export interface Found {
  readonly kind: 'file' | 'link';
  readonly text: string;
  readonly mode: number;
}

/**
 * Reads what exists at `path`, without following a symlink for kind and mode; undefined if nothing does. Throws `unsafe`
 * for anything but a file or a symlink.
 */
export function readTarget(host: Host, path: string): Found | undefined {
  const s = host.lstat(path);
  if (!s) return undefined;
  if (s.kind !== 'file' && s.kind !== 'link')
    throw new MayflyError('unsafe', `"${path}" is not a file`, { path });
  return { kind: s.kind, text: host.pathType(path) === 'other' ? (host.read(path) ?? '') : '', mode: s.mode };
}

/** The line numbers, from 0, of the lines that contain `what`; comment lines do not count. */
export function linesWith(text: string, what: string): number[] {
  return text.split('\n').flatMap((line, i) => (!/^\s*#/.test(line) && line.includes(what) ? [i] : []));
}

/** Describes a change in one line. */
export function describeChange(c: Change): string {
  const actions = {
    mkdir: 'create the directory',
    rmdir: 'remove the directory',
    write: 'write',
    remove: 'remove',
    reload: 'reload',
    profile: c.act === 'profile' && c.on ? 'add the Mayfly profile to' : 'remove the Mayfly profile from',
    rename: 'rename',
    divert: 'divert',
    undivert: 'remove the diversion of',
  };
  const to = c.act === 'rename' || c.act === 'divert' ? ` to ${c.to}` : '';
  return `${actions[c.act]} ${c.path}${to}: ${c.why}`;
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

/** Throws `unsafe` if a parent directory below /etc is a symlink: files would be written somewhere else. */
function checkParents(host: Host, path: string): void {
  for (let at = parentOf(path); at.startsWith('/etc/'); at = parentOf(at)) {
    const kind = host.lstat(at)?.kind;
    if (kind === undefined || kind === 'dir') continue;
    throw new MayflyError('unsafe', `"${at}" is a symlink or not a directory; refusing to write below it`, {
      path: at,
    });
  }
}

/** Throws `unsafe`, before anything is done, if a change would lead out of the directory it names. */
export function checkChanges(host: Host, changes: readonly Change[]): void {
  for (const c of changes) if (c.act !== 'divert' && c.act !== 'undivert') checkParents(host, c.path);
}

/** Removes the temporary file that an interrupted write of `path` left beside it. */
export function sweepBeside(host: Host, path: string): void {
  const directory = parentOf(path);
  if (host.lstat(directory)?.kind === 'dir')
    sweepTemporary(host, directory, `${path.slice(directory.length + 1)}.`);
}

/** Performs one change, and syncs it so that it survives a power cut. Throws `refused`, `command` and I/O errors. */
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
    // Only dpkg's entry. The renames are changes of their own, so that an interrupted run can be completed.
    const option = c.act === 'divert' ? '--add' : '--remove';
    const args = ['--package', 'mayfly', option, '--no-rename', '--divert', c.to, c.path];
    await host.run({ file: 'dpkg-divert', args, effect: 'write' });
    return;
  }
  host.sync(directory);
}

/**
 * Has pam-auth-update(8) write the PAM stack with or without our profile. pam-auth-update exits with success even if it
 * leaves the stack unchanged, which it does if the administrator has edited its block; that is `refused`.
 */
async function changeProfile(
  host: Host,
  { path, line, on }: Extract<Change, { act: 'profile' }>,
): Promise<void> {
  const option = on ? '--enable' : '--disable';
  const args = ['DEBIAN_FRONTEND=noninteractive', 'pam-auth-update', option, 'mayfly'];
  const text = host.read(path) ?? '';
  const own = new Set(linesWith(text, line));
  const rest = text.split('\n').filter((_, i) => !own.has(i));
  const after = (on ? [line, ...rest] : rest).join('\n');
  await host.run({ file: 'env', args, effect: 'write', simulate: view => view.write(path, after) });
  if (linesWith(host.read(path) ?? '', line).length > 0 === on) return;
  throw new MayflyError('refused', `"${path}" was edited by hand, so pam-auth-update does not change it`, {
    path,
    hint: `pam-auth-update --force ${option} mayfly, which saves the old file as ${path}.pam-old; then repeat the command`,
  });
}
