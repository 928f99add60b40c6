/**
 * The person inside: their account, their groups, what names the machine, and the marker that this is a session.
 *
 * Only their own lines are added to the generation's files; nobody else's password hash enters a session. Written
 * before anyone can get in, each by rename, so that a symlink in the generation is replaced, never written through.
 */
import type { Config } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import type { Group, User } from '../linux/accounts.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';
import type { Session } from '../state/sessions.ts';
import { isMember } from './scope.ts';

/** Inside a session this file exists, and every hook of ours does nothing. */
export const MARKER = '/etc/mayfly-session';

/** Groups whose members may become root: membership is not carried in, `sudo` in the configuration is the way. */
const ROOT_GROUPS = new Set([
  'sudo',
  'admin',
  'wheel',
  'root',
  'adm',
  'shadow',
  'disk',
  'docker',
  'lxd',
  'libvirt',
]);

/** Replaces the lines of the same name, and of the same number unless it is a system account's, by `line`. */
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
 * The group file with this user in the groups they have on the host. Processes carry the host's numbers, so a group
 * unknown inside is added under its host number where that is free; one known by name keeps the number it has.
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
    const belongs = wanted.some(g => g.name === name && g.gid !== user.gid);
    return `${name}:${password}:${gid}:${[...list, ...(belongs ? [user.name] : [])].join(',')}`;
  });
  for (const g of wanted) {
    if (seen.has(g.name) || numbers.has(String(g.gid))) continue;
    out.push(`${g.name}:x:${g.gid}:${g.gid === user.gid ? '' : user.name}`);
  }
  return `${out.join('\n')}\n`;
}

/** The last rule for a user wins in sudoers(5), and the included files come last. */
export function sudoRule(user: User, allowed: boolean): string {
  return allowed ? `#${user.uid} ALL=(ALL:ALL) NOPASSWD: ALL\n` : `#${user.uid} ALL=(ALL:ALL) !ALL\n`;
}

/** Reads a file of the tree that must be a plain one. */
function readInside(host: Host, path: string): string {
  const there = host.lstat(path);
  if (there?.kind !== 'file') {
    throw new MayflyError('corrupt', `the generation has no plain file "${path}"; it is not a whole system`, {
      path,
    });
  }
  return host.read(path) ?? '';
}

/** A screen locker inside asks for the same password; an account from the network has no line here. */
function shadowLine(host: Host, name: string): string {
  const own = host
    .read('/etc/shadow')
    ?.split('\n')
    .find(line => line.startsWith(`${name}:`));
  return own ?? `${name}:*:::::::`;
}

/** Writes all identity files into the mounted tree of `s`. */
export function writeIdentity(host: Host, config: Config, s: Session, groups: readonly Group[]): void {
  const etc = `${s.root}/etc`;
  if (host.lstat(etc)?.kind !== 'dir') {
    throw new MayflyError(
      'corrupt',
      `generation ${s.generation} has no directory "/etc"; it is not a whole system`,
      { path: etc },
    );
  }
  const { name, uid, gid, gecos, home, shell } = s.user;
  if (uid !== 0) {
    const line = `${name}:x:${uid}:${gid}:${gecos}:${home}:${shell}`;
    host.write(`${etc}/passwd`, () => withEntry(readInside(host, `${etc}/passwd`), line, 2), { mode: 0o644 });
    host.write(`${etc}/group`, () => withGroups(readInside(host, `${etc}/group`), s.user, groups), {
      mode: 0o644,
    });
    const shadow = host.lstat(`${etc}/shadow`);
    if (shadow?.kind === 'file') {
      const text = () => withEntry(host.read(`${etc}/shadow`) ?? '', shadowLine(host, name), undefined);
      host.write(`${etc}/shadow`, text, { mode: 0o640, uid: 0, gid: shadow.gid });
    }
    if (host.lstat(`${etc}/sudoers.d`)?.kind === 'dir') {
      const rule = sudoRule(s.user, isMember(config.sudo, s.user, groups));
      host.write(`${etc}/sudoers.d/zz-mayfly`, rule, { mode: 0o440 });
    }
  }
  const plain = new Map([['/etc', true]]);
  for (const path of config.identity.copy) {
    const directory = path.slice(0, path.lastIndexOf('/'));
    const isPlain = plain.get(directory) ?? isPlainDirectory(host, s.root, directory);
    plain.set(directory, isPlain);
    if (!isPlain || host.stat(path)?.kind !== 'file') continue;
    host.write(s.root + path, () => host.read(path) ?? '', { mode: 0o644 });
  }
  const facts = { session: s.id, user: name, generation: s.generation, started: s.created };
  host.write(s.root + MARKER, `${JSON.stringify(facts)}\n`, { mode: 0o644 });
}
