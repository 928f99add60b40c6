/**
 * Copies the running system into a tree, without what is private; see `not-copied.ts`. Private files are left out when
 * the system is archived. The copy is then judged by the same rule, for what has changed meanwhile, and for names that
 * tar(1) cannot be told.
 */
import { type Config, isPerson } from '../config/config.ts';
import type { Command } from '../linux/command.ts';
import type { Host } from '../linux/host.ts';
import { passwdLines, withoutPeople } from './copied-accounts.ts';
import { describePrivate, findNotCopied, isBelow, NOT_FROM_HOST, type TreeEntry } from './not-copied.ts';
import { readShipped, unchangedFiles } from './shipped.ts';
import { realPath, sourceTrees } from './source-trees.ts';

/** Directories of the system that may be mounts. */
const SEPARATE = ['/usr', '/var', '/opt', '/usr/local', '/var/lib', '/etc'];

export interface HostCopy {
  readonly host: Host;
  readonly config: Config;
  /** Root of the system that is copied; "" is the running one. */
  readonly root: string;
  readonly tree: string;
  /** Mayfly's own directories. */
  readonly own: readonly string[];
  /** A file for the names that tar(1) leaves out. */
  readonly list: string;
  readonly say: (line: string, detail?: boolean) => void;
}

interface Entry extends TreeEntry {
  readonly inode: string;
}

/** What is not copied from a tree, as paths. */
interface NotCopied {
  readonly private: readonly Entry[];
  readonly state: readonly TreeEntry[];
  readonly closed: ReadonlySet<string>;
}

/** Home directories of people that are elsewhere than in /home. A directory that belongs to root is none. */
function otherHomes({ host, config, root }: HostCopy): string[] {
  return passwdLines(host.read(`${root}/etc/passwd`) ?? '').flatMap(({ uid, home }) => {
    const there = isPerson(config, uid) && /^\/[^/]/.test(home) ? host.lstat(root + home) : undefined;
    return there?.kind === 'dir' && isPerson(config, there.uid) ? [home.replace(/\/+$/, '')] : [];
  });
}

/** All entries of a tree and of the parts of it that are on other file systems, without those that are never copied. */
async function readEntries(host: Host, root: string, parts: readonly string[]): Promise<Entry[]> {
  const all: Entry[] = [];
  for (const part of ['', ...parts]) {
    const top = `${root}${part}/`;
    const skip = NOT_FROM_HOST.filter(p => p.endsWith('/*')).flatMap(p => ['-o', '-path', root + p]);
    const args = [top, '-xdev', '(', '-false', ...skip, ')', '-prune', '-o'];
    const { stdout } = await host.run({
      ...{ file: 'find', args: [...args, '-printf', '%y %m %i %P\\0'], effect: 'read' },
      okCodes: [0, 1], // 1: a directory has vanished
    });
    for (const row of stdout.split('\0')) {
      const [, type = '', mode = '', inode = '', below = ''] = /^(.) (\d+) (\d+) (.+)$/s.exec(row) ?? [];
      if (below !== '') all.push({ type, mode: Number.parseInt(mode, 8), inode, path: `${part}/${below}` });
    }
  }
  return all;
}

async function notCopied(
  c: HostCopy,
  root: string,
  parts: readonly string[],
  keep: readonly string[],
): Promise<NotCopied> {
  const { host } = c;
  const entries = await readEntries(host, root, parts);
  const never = [...c.own, ...otherHomes(c)];
  const found = findNotCopied(entries, { never, keep });
  const shipped = readShipped(host, root, new Set(found.private.map(e => e.path)));
  const files = found.private.filter(e => e.type === 'f').map(e => e.path);
  const unchanged = await unchangedFiles(host, root, files, shipped.sums);
  const left = found.private.filter(({ type, path }) =>
    type === 'f' ? !unchanged.has(path) : !shipped.listed.has(path),
  );
  return { ...found, private: left };
}

/** Copies the system. Names the private files that it leaves out, and the mounts. Throws `command`. */
export async function copyHost(c: HostCopy): Promise<void> {
  const { host, root, tree, say } = c;
  const neverBelow = NOT_FROM_HOST.map(p => p.replace(/\/\*$/, ''));
  const { subvolumes, mounts } = await sourceTrees(host, root, path =>
    isBelow(path, [...neverBelow, ...c.own]),
  );
  for (const path of mounts)
    if (!SEPARATE.includes(path)) say(`"${root}${path}" is not copied: it is a mount`);
  const separate = SEPARATE.filter(path => {
    const above = host.stat(`${root}${path.slice(0, path.lastIndexOf('/'))}/`);
    const here = host.lstat(root + path);
    return here?.kind === 'dir' && here.dev !== above?.dev;
  });
  const parts = [...new Set([...separate, ...subvolumes])];

  const keep = await namedPaths(c);
  const { private: secret, state, closed } = await notCopied(c, root, parts, keep);
  try {
    const names = [...state, ...secret].map(e => `.${e.path}`).filter(name => !/\n|\s$/.test(name));
    host.write(c.list, names.map(name => `${name}\n`).join(''), { mode: 0o600 });
    const excludes = ['--anchored', '--no-wildcards', `--exclude-from=${c.list}`];
    const patterns = [...NOT_FROM_HOST, ...c.own].map(path => `--exclude=.${path}`);
    const options = [...excludes, '--wildcards', ...patterns];
    await runTar(c, [...options, '-C', `${root}/`, '.', ...parts.map(path => `.${path}`)]);
  } finally {
    host.unlink(c.list);
  }
  const late = await notCopied(c, tree, [], keep);
  await removeEntries(c, late.private);
  for (const path of keep) await copyNamed(c, path);
  const all = new Set([...secret, ...late.private].map(e => e.path));
  if (all.size > 0)
    say(`not copied, because others cannot read it; to copy some of it, name it in "keep" in [init]:`);
  for (const line of describePrivate([...all], new Set([...closed, ...late.closed])))
    say(`not copied: ${line}`);
}

async function runTar({ host, tree, say }: HostCopy, args: readonly string[]): Promise<void> {
  // Without --acls: ACLs are among the extended attributes.
  const options = ['--create', '--sparse', '--one-file-system', '--numeric-owner', '--no-acls', '--xattrs'];
  const quiet = ['--xattrs-include=*', '--warning=no-file-changed', '--warning=no-file-removed'];
  await host.run({
    ...extractInto(tree, '-'),
    onLine: line => say(line, true),
    // 1: a file changed while it was read
    pipeFrom: { file: 'tar', args: [...options, ...quiet, '-f', '-', ...args], okCodes: [0, 1] },
  });
}

/** The command that extracts an archive. With `acls`, ACLs are those of records of their own, and there are no others. */
export function extractInto(tree: string, file: string, acls = false): Command {
  const attributes = [acls ? '--acls' : '--no-acls', '--xattrs', '--xattrs-include=*'];
  const options = [
    '--extract',
    '--numeric-owner',
    '--preserve-permissions',
    ...attributes,
    '--exclude=./dev/*',
  ];
  return { file: 'tar', args: [...options, '-C', tree, '-f', file], effect: 'write' };
}

/** Removes entries of the copy by their inode numbers: names that are not UTF-8 cannot be passed to a program. */
async function removeEntries({ host, tree }: HostCopy, entries: readonly Entry[]): Promise<void> {
  const AT_ONCE = 500;
  for (let i = 0; i < entries.length; i += AT_ONCE) {
    const some = entries.slice(i, i + AT_ONCE).flatMap(e => ['-o', '-inum', e.inode]);
    const args = [`${tree}/`, '-xdev', '-depth', '-mindepth', '1', '(', '-false', ...some, ')', '-delete'];
    await host.run({ file: 'find', args, effect: 'write' });
  }
}

/** The paths that the administrator has named, without symlinks on the way. */
async function namedPaths({ host, config, root, say }: HostCopy): Promise<string[]> {
  if (config.init.keep.length === 0) return [];
  const base = await realPath(host, `${root}/`);
  const found: string[] = [];
  for (const path of config.init.keep) {
    if (host.lstat(root + path) === undefined) {
      say(`"${root}${path}" is named in "keep" in [init], but does not exist`);
      continue;
    }
    const slash = path.lastIndexOf('/');
    const real = await realPath(host, `${root}${path.slice(0, slash)}/`);
    const above = base === '/' ? real : real.slice(base.length);
    found.push(`${above === '/' ? '' : above}${path.slice(slash)}`);
  }
  return found;
}

/**
 * Copies such a path, from wherever it is, with the directories on the way. A symlink among these would lead tar(1) out
 * of the tree.
 */
async function copyNamed(c: HostCopy, path: string): Promise<void> {
  const parents = path.split('/').slice(1, -1);
  const above = parents.map((_, i) => `./${parents.slice(0, i + 1).join('/')}`);
  await runTar(c, ['-C', `${c.root}/`, '--no-recursion', ...above, '--recursion', `.${path}`]);
}

/** Used where the host's own is private. Without one, sudo(8) refuses everybody, also whom the configuration names. */
const SUDOERS =
  '# Written by "mayfly init", because others cannot read that of the host, and no package ships it.\n' +
  'Defaults env_reset\nroot ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n';

/**
 * Writes the account files of a copy, without people and passwords: from those of the system at `root`, because the copy
 * has never had the hashes.
 */
export function writeAccounts(host: Host, root: string, tree: string, config: Config): void {
  const read = (name: string): string | undefined => host.read(`${root}/etc/${name}`);
  const texts = withoutPeople(
    {
      ...{ passwd: read('passwd') ?? '', group: read('group') ?? '', shadow: read('shadow') },
      ...{ gshadow: read('gshadow'), subuid: read('subuid'), subgid: read('subgid') },
    },
    uid => isPerson(config, uid),
  );
  for (const [name, text] of Object.entries(texts)) {
    if (text === undefined) continue;
    const gid = name.endsWith('shadow') ? (host.stat(`${root}/etc/${name}`)?.gid ?? 0) : 0;
    const mode = name.endsWith('shadow') ? 0o640 : 0o644;
    host.write(`${tree}/etc/${name}`, text, { mode, uid: 0, gid });
  }
  const sudoers = `${tree}/etc/sudoers`;
  if (host.lstat(`${tree}/usr/bin/sudo`) && host.lstat(sudoers) === undefined)
    host.write(sudoers, SUDOERS, { mode: 0o440, uid: 0, gid: 0 });
}
