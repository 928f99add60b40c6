/**
 * What the kernel itself does with files of a session: loop devices and swap space. Users can make loop devices through
 * udisks, root in a session by losetup(8), and mount them anywhere on the host; root can use a file as swap. Each keeps the
 * file system of its file alive, in memory or in the pool, and no process shows it.
 */
import { MayflyError } from '../errors.ts';
import { lookAt } from './files.ts';
import type { Host } from './host.ts';
import { backingFile, isPlainDirectory } from './mounts.ts';
import { describeHolders, findHolders } from './processes.ts';

interface LoopDevice {
  /** "loop3". */
  readonly name: string;
  /** st_dev of its file. */
  readonly on: number;
  readonly file: string;
}

/** Where a file system on a loop device is mounted. */
interface LoopMount {
  readonly place: string;
  /** st_dev of the file system. */
  readonly device: number;
  /** major:minor, as in mount tables. */
  readonly number: string;
}

/** A path in a table of the kernel, with spaces and the like as octal numbers. Pure. */
const unescaped = (path: string): string =>
  path.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)));

/** The st_dev of "major:minor" (makedev(3)). Pure. */
function deviceOf(number: string): number {
  const [major = 0, minor = 0] = number.split(':').map(Number);
  return (major & 0xfff) * 256 + (minor & 0xff) + (minor & ~0xff) * 4096;
}

/** Parses the output of losetup(8) with the columns NAME, BACK-MAJ:MIN and BACK-FILE, in raw format. Pure. */
export function parseLoops(text: string): LoopDevice[] {
  return text.split('\n').flatMap(line => {
    const plain = line.replace(/\\x([0-9a-f]{2})/g, (_, hex: string) =>
      String.fromCharCode(Number.parseInt(hex, 16)),
    );
    const [, name, number, file] = /^\/dev\/(loop\d+)\s+(\d+:\d+)\s+(.*)$/s.exec(plain) ?? [];
    return name && number ? [{ name, on: deviceOf(number), file: file ?? '' }] : [];
  });
}

async function allLoops(host: Host): Promise<LoopDevice[]> {
  const columns = ['--list', '--raw', '--noheadings', '--output', 'NAME,BACK-MAJ:MIN,BACK-FILE'];
  const all = parseLoops((await host.run({ file: 'losetup', args: columns, effect: 'read' })).stdout);
  return all.filter(loop => host.read(backingFile(loop.name))?.trim());
}

/** Where the device or one of its partitions is mounted in our mount namespace. */
function mountsOf(host: Host, { name }: LoopDevice): LoopMount[] {
  const nodes = [name, ...host.list(`/sys/block/${name}`).filter(part => part.startsWith(`${name}p`))];
  const numbers = [
    host.read(`/sys/block/${name}/dev`),
    ...nodes.slice(1).map(part => host.read(`/sys/block/${name}/${part}/dev`)),
  ].map(text => text?.trim());
  return (host.read('/proc/self/mountinfo') ?? '').split('\n').flatMap(line => {
    const [before = '', after = ''] = line.split(' - ');
    const [, , number = '', , place = ''] = before.split(' ');
    const [type, source = ''] = after.split(' ');
    // btrfs has a device number of its own; only root chooses the source.
    const isOnIt =
      numbers.includes(number) || (type === 'btrfs' && nodes.some(node => source === `/dev/${node}`));
    if (!isOnIt) return [];
    return [{ place: unescaped(place), device: deviceOf(number), number }];
  });
}

/** What of the machine is a session's. */
export interface SessionTree {
  readonly root: string;
  /** st_dev of its own file systems; its tree is mounted, so the kernel has not given the numbers to others. */
  readonly devices: ReadonlySet<number>;
  /** Directories in its tree that are the host's. */
  readonly shared: readonly string[];
}

/**
 * Whether the file is the session's by the path that it has in a mount namespace of the session: udisks gets such files
 * opened. Unlike its directories, a file of a lower layer need not have the device number of the tree. No symlink is
 * followed, because it could lead to a file of the host that has a device of the host's.
 */
function isFileOf(host: Host, { root }: SessionTree, { file, on }: LoopDevice): boolean {
  if (!isPlainDirectory(host, root, file.slice(0, file.lastIndexOf('/')))) return false;
  const there = lookAt(host, root + file);
  return there?.kind === 'file' && there.dev === on;
}

/** The session's ones of `all`, also those on files in file systems on its loop devices; these come after them. */
function loopsOf(host: Host, tree: SessionTree, all: readonly LoopDevice[]): LoopDevice[] {
  const isInside = (loop: LoopDevice): boolean =>
    loop.file.startsWith(`${tree.root}/`) && !tree.shared.some(path => loop.file.startsWith(`${path}/`));
  const own = new Set(tree.devices);
  const found: LoopDevice[] = [];
  for (let before = -1; before !== found.length; ) {
    before = found.length;
    for (const loop of all) {
      // On some layers the files of an overlay have another device number than its directories.
      if (found.includes(loop) || !(own.has(loop.on) || isInside(loop) || isFileOf(host, tree, loop)))
        continue;
      found.push(loop);
      for (const m of mountsOf(host, loop)) own.add(m.device);
    }
  }
  return found;
}

/** The nodes of the device and its partitions that are swap space. */
function swapOn(host: Host, { name }: LoopDevice): string[] {
  const swaps = host.read('/proc/swaps') ?? '';
  return swaps.split('\n').flatMap(line => {
    const path = line.split(' ')[0] ?? '';
    return path === `/dev/${name}` || path.startsWith(`/dev/${name}p`) ? [path] : [];
  });
}

/** Who uses a loop device that does not go away, as text. */
async function usersOf(host: Host, loop: LoopDevice): Promise<string> {
  const mounts = mountsOf(host, loop);
  const number = mounts[0]?.number ?? host.read(`/sys/block/${loop.name}/dev`)?.trim() ?? '';
  const holders = await findHolders(host, new Set([deviceOf(number)]), { device: number, root: '' });
  const above = host.list(`/sys/block/${loop.name}/holders`);
  const swap = swapOn(host, loop).length > 0;
  const all = [
    ...mounts.map(m => `its mount at ${m.place}`),
    ...(holders.length > 0 ? [describeHolders(holders)] : []),
    ...above.map(name => `the device ${name}`),
    ...(swap ? ['swap space'] : []),
  ];
  return all.length > 0 ? all.join(', ') : 'something that has the device open';
}

/** Takes a file or device out of use as swap space; what is in it moves to memory. Throws `command` if there is too little. */
function endSwap(host: Host, path: string) {
  // 4: it is none; the host's own may have the same path
  return host.run({ file: 'swapoff', args: ['--', path], effect: 'write', okCodes: [0, 4] });
}

/**
 * Takes the session's files out of use as swap space, of `files` from {@link swapFiles}. The table shows the path that a
 * file has in the namespace where it was opened. Nobody can remove or rename such a file. It may be in a nested subvolume,
 * which has a device number of its own: the session's are those on the way to which there are neither symlinks nor mounts.
 */
export async function releaseSwap(
  host: Host,
  { root, devices }: SessionTree,
  files: readonly string[],
): Promise<void> {
  const isVisible = devices.has(lookAt(host, root)?.dev ?? -1); // nothing is mounted over the session's tree
  if (files.length === 0 || !isVisible) return;
  const lines = (host.read('/proc/self/mountinfo') ?? '').split('\n');
  const mounted = new Set(lines.map(line => unescaped(line.split(' ')[4] ?? '')));
  for (const path of files.map(unescaped)) {
    const parts = (path.startsWith(`${root}/`) ? path.slice(root.length) : path).split('/').slice(1);
    const isOwn = parts.every((part, i) => {
      const at = `${root}/${parts.slice(0, i + 1).join('/')}`;
      const kind = i < parts.length - 1 ? 'dir' : 'file';
      return part !== '..' && !mounted.has(at) && lookAt(host, at)?.kind === kind;
    });
    if (isOwn) await endSwap(host, `${root}/${parts.join('/')}`);
  }
}

/** How often it is looked whether the devices are gone: udev may have one open for a moment. */
const LOOKS = 8;

function detachLoop(host: Host, { name }: LoopDevice) {
  return host.run({
    file: 'losetup',
    args: ['-d', `/dev/${name}`],
    effect: 'write',
    okCodes: [0, 1], // 1: it has gone by itself
    simulate: view => view.write(backingFile(name), ''),
  });
}

/**
 * Unmounts and detaches the loop devices on files of the session, before its tree is detached. Those on files of the host
 * that were opened in the session hold nothing of it: the kernel detaches them when nobody uses them any more. Throws
 * `stuck` with who uses one of its own.
 */
export async function releaseLoops(host: Host, tree: SessionTree): Promise<void> {
  const all = await allLoops(host);
  const shared = all.filter(loop => tree.shared.some(path => loop.file.startsWith(`${path}/`)));
  for (const loop of shared) await detachLoop(host, loop);
  for (let look = 0; ; look++) {
    // A logout where all loop devices are somebody else's, such as those of snapd, lists them once.
    const loops = loopsOf(host, tree, look > 0 || shared.length > 0 ? await allLoops(host) : all);
    const [first] = loops;
    if (!first) return;
    if (look === LOOKS) {
      const what = `/dev/${first.name} on the session's file "${first.file}" is in use`;
      throw new MayflyError('stuck', `${what}: ${await usersOf(host, first)}`, {
        path: `/dev/${first.name}`,
      });
    }
    if (look > 0) await host.sleep(10 * 2 ** look);
    for (const loop of loops.reverse()) {
      for (const m of mountsOf(host, loop).reverse())
        await host.run({ file: 'umount', args: ['--', m.place], effect: 'write', okCodes: [0, 32] });
      for (const path of swapOn(host, loop)) await endSwap(host, path);
      await detachLoop(host, loop);
    }
  }
}
