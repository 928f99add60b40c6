/**
 * The identity files of a session: the user's account and groups, the files that name the machine, and the marker
 * that makes it a session.
 *
 * Only the user's own lines are added to the generation's files, so no other password hash enters a session. The
 * files are written before anyone can enter, each by rename, so a symlink in the generation is replaced and never
 * followed.
 */
import { MayflyError } from '../errors.ts';
import type { Group, User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { copyHostFiles } from './host-files.ts';
import { withNames } from './other-names.ts';
import { writeRefusals } from './refusals.ts';
import { isMember } from './scope.ts';

/** Exists inside every session; our hooks do nothing there. */
export const MARKER = '/etc/mayfly-session';

/**
 * Groups whose members can become root. Membership is not carried into a session; `sudo` in the configuration grants
 * it.
 */
const ROOT_GROUPS = new Set(['sudo', 'admin', 'wheel', 'root', 'shadow', 'disk', 'docker', 'lxd', 'libvirt']);

/**
 * Adds `line` to the text of a passwd(5)-like file and removes the lines with the same name. With `numberField`, the
 * index of a numeric field, lines with the same number are removed too. Pure.
 */
export function withEntry(text: string, line: string, numberField: number | undefined): string {
  const fields = line.split(':');
  const keep = text.split('\n').filter(old => {
    if (old === '') return false;
    const f = old.split(':');
    return f[0] !== fields[0] && (numberField === undefined || f[numberField] !== fields[numberField]);
  });
  return `${[...keep, line].join('\n')}\n`;
}

/**
 * Returns the group file with this user in the groups they have on the host, without {@link ROOT_GROUPS}. Processes
 * keep the host's group IDs, so a group that the generation lacks is added with its host ID if that is free. The user is
 * a member only where name and number agree: a directory group called "kmem" is not the generation's group of that name,
 * nor is a group with the number of "kmem". Pure.
 */
export function withGroups(text: string, user: User, groups: readonly Group[]): string {
  const lines = text.split('\n').filter(Boolean);
  const wanted = groups.filter(g => g.gid === user.gid || !ROOT_GROUPS.has(g.name));
  const seen = new Set<string>();
  const numbers = new Set<string>();
  const out = lines.map(line => {
    const [name = '', password = 'x', gid = '', members = ''] = line.split(':');
    seen.add(name);
    numbers.add(gid);
    const list = members.split(',').filter(m => m !== '' && m !== user.name);
    const belongs = wanted.some(g => g.name === name && String(g.gid) === gid && g.gid !== user.gid);
    return `${name}:${password}:${gid}:${[...list, ...(belongs ? [user.name] : [])].join(',')}`;
  });
  for (const g of wanted) {
    if (g.name === '' || seen.has(g.name) || numbers.has(String(g.gid))) continue;
    out.push(`${g.name}:x:${g.gid}:${g.gid === user.gid ? '' : user.name}`);
  }
  return `${out.join('\n')}\n`;
}

/**
 * Those of the user's `own` numbers that the text of passwd(5) or group(5) gives to other names only, and `unnamed`. An
 * update gives both sides the same numbers; these are new since then, as a new group in a directory is. Pure.
 */
export function takenNumbers(
  text = '',
  own: readonly { readonly name: string; readonly number: number }[],
  unnamed: readonly number[] = [],
): number[] {
  const isTaken = ({ name, number }: { readonly name: string; readonly number: number }): boolean => {
    const field = `:${number}`;
    if (number === 0 || !text.includes(field)) return false; // nearly always, and quicker than to take lines apart
    const lines = text.split('\n').filter(line => line.includes(field));
    const theirs = lines.filter(line => line.split(':', 3)[2] === String(number));
    return theirs.length > 0 && !theirs.some(line => line.startsWith(`${name}:`));
  };
  const taken = own.filter(isTaken);
  return [...taken.map(o => o.number), ...unnamed];
}

/**
 * Returns a subuid(5) file with the ranges that the user has on the host, and none that the generation gives to that
 * name or number: there, another user of the host may have them. Pure.
 */
export function withRanges(
  text: string,
  hostText: string,
  { name, uid }: Pick<User, 'name' | 'uid'>,
): string {
  const isTheirs = (line: string): boolean => line.startsWith(`${name}:`) || line.startsWith(`${uid}:`);
  const others = text.split('\n').filter(line => line !== '' && !isTheirs(line));
  const all = [...others, ...hostText.split('\n').filter(isTheirs)];
  return all.map(line => `${line}\n`).join('');
}

/** Writes the ranges of user and group IDs that newuidmap(1) lets the user map, for containers without root. */
function writeRanges(host: Host, s: Session): void {
  for (const path of ['/etc/subuid', '/etc/subgid']) {
    const there = host.lstat(s.root + path);
    const text = there?.kind === 'file' ? (host.read(s.root + path) ?? '') : '';
    const wanted = withRanges(text, host.read(path) ?? '', s.user);
    if (wanted !== text) host.write(s.root + path, wanted, { mode: 0o644 });
  }
}

/** Shells that take the place of one that the generation lacks. */
const SHELLS = ['/bin/bash', '/bin/sh'];

/**
 * The user's shell, or another if the generation lacks it: terminals, and desktops that begin with a login shell, would
 * not start. doctor names such users.
 */
export function shellIn(host: Pick<Host, 'lstat'>, root: string, shell: string): string {
  return [shell, ...SHELLS].find(path => host.lstat(root + path)) ?? shell;
}

/** The user's line for sudoers.d. The last matching rule wins in sudoers(5), and included files come last. */
export function sudoRule(user: User, allowed: boolean): string {
  return allowed ? `#${user.uid} ALL=(ALL:ALL) NOPASSWD: ALL\n` : `#${user.uid} ALL=(ALL:ALL) !ALL\n`;
}

/** The text of a file of the tree; undefined unless it is a regular file. In a dry run there may be no tree. */
function textInside(host: Host, path: string): string | undefined {
  return host.lstat(path)?.kind === 'file' ? (host.read(path) ?? '') : undefined;
}

/** Returns the text of a file of the tree; throws `corrupt` if there is no such regular file. */
function requireText(text: string | undefined, path: string): string {
  if (text !== undefined) return text;
  const what = `the generation has no regular file "${path}"; it is not a complete system`;
  throw new MayflyError('corrupt', what, { path });
}

/**
 * The user's own shadow line, for screen lockers in the session. A network account has none and gets a locked one. The
 * service keeps it up to date: see `linux/refresh-session.ts`.
 */
function shadowLine(host: Host, name: string): string | undefined {
  const lines = host.read('/etc/shadow')?.split('\n');
  return lines?.find(line => line.startsWith(`${name}:`));
}

/** Throws `unsafe` unless `path` is a directory of the session's own file system: what is mounted there is the host's. */
function requireOwnDirectory(host: Host, root: string, path: string): void {
  if (isPlainDirectory(host, root, path)) return;
  const message = `"${path}" in the session is not a directory of its own file system; cannot write to it`;
  throw new MayflyError('unsafe', message, { path: root + path });
}

/**
 * Writes all identity files into the mounted tree of `s`. Throws `corrupt` if the tree lacks the files of a system, and
 * `unsafe`, before anything is written, if something is mounted where they belong.
 */
export async function writeIdentity(on: Machine, s: Session): Promise<void> {
  const { host, config } = on;
  const { groups } = s;
  const etc = `${s.root}/etc`;
  if (host.lstat(etc)?.kind !== 'dir') {
    throw new MayflyError(
      'corrupt',
      `generation ${s.generation} has no directory "/etc"; it is not a complete system`,
      { path: etc },
    );
  }
  requireOwnDirectory(host, s.root, '/etc');
  const hasSudoers = host.lstat(`${etc}/sudoers.d`)?.kind === 'dir';
  if (hasSudoers) requireOwnDirectory(host, s.root, '/etc/sudoers.d');
  const { name, uid, gid, gecos, home } = s.user;
  const isAdmin = uid === 0 || isMember(config.sudo, s.user, groups);
  let isLocal = false;
  if (uid !== 0) {
    const shell = shellIn(host, s.root, s.user.shell);
    const line = `${name}:x:${uid}:${gid}:${gecos}:${home}:${shell}`;
    let passwd = textInside(host, `${etc}/passwd`);
    let group = textInside(host, `${etc}/group`);
    const users = takenNumbers(passwd, [{ name, number: uid }], s.unnamed?.users);
    const numbers = groups.map(g => ({ name: g.name, number: g.gid }));
    const taken = { users, groups: takenNumbers(group, numbers, s.unnamed?.groups) };
    if (passwd !== undefined && group !== undefined && taken.users.length + taken.groups.length > 0) {
      const { giveOthersNewNumbers } = await import('./number-conflicts.ts');
      ({ passwd, group } = await giveOthersNewNumbers(on, s, { passwd, group }, taken));
    }
    const own = {
      passwd: () => withEntry(requireText(passwd, `${etc}/passwd`), line, 2),
      group: () => withGroups(requireText(group, `${etc}/group`), s.user, groups),
    };
    for (const kind of ['passwd', 'group'] as const) {
      const text = (): string => withNames(own[kind](), host.read(`/etc/${kind}`) ?? '', kind);
      host.write(`${etc}/${kind}`, text, { mode: 0o644 });
    }
    const shadow = host.lstat(`${etc}/shadow`);
    const ownLine = shadowLine(host, name);
    isLocal = /^[^:]+:!?[^!*:]{3}/.test(ownLine ?? '');
    if (shadow?.kind === 'file') {
      const ownOrLocked = ownLine ?? `${name}:*:::::::`;
      const text = () => withEntry(host.read(`${etc}/shadow`) ?? '', ownOrLocked, undefined);
      host.write(`${etc}/shadow`, text, { mode: 0o640, uid: 0, gid: shadow.gid });
    }
    writeRanges(host, s);
    if (hasSudoers) {
      host.write(`${etc}/sudoers.d/zz-mayfly`, sudoRule(s.user, isAdmin), { mode: 0o440 });
    }
  }
  writeRefusals(host, s.root, { uid, local: isLocal, admin: isAdmin });
  await copyHostFiles(on, s.root);
  const marker = { session: s.id, user: name, generation: s.generation, started: s.created };
  host.write(s.root + MARKER, `${JSON.stringify(marker)}\n`, { mode: 0o644 });
}
