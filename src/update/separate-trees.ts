/**
 * Directories in a volume's tree that a copy of the volume does not contain: nested subvolumes of btrfs, of which a
 * snapshot shows an empty directory (and cp(1) nothing, with --one-file-system), and mounts. What is in them would be
 * missing in the generation, and lost when a copy becomes master.
 */
import { MayflyError } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import type { Volume } from '../volume/backend.ts';

export interface SeparateTree {
  /** Path in the tree. */
  readonly path: string;
  /** `stub`: what a snapshot shows of a nested subvolume, an empty directory in which nothing can be created. */
  readonly kind: 'subvolume' | 'stub' | 'mount';
  readonly isEmpty: boolean;
  readonly mode: string;
  readonly uid: string;
  readonly gid: string;
}

/** Inode numbers of a subvolume's root and of a stub (BTRFS_FIRST_FREE_OBJECTID, BTRFS_EMPTY_SUBVOL_DIR_OBJECTID). */
const SUBVOLUME = '256';

const STUB = '2';

/** The topmost of these directories in a master or work volume. A volume on a device of its own has none. */
export async function separateTrees(on: Machine, v: Volume): Promise<SeparateTree[]> {
  const tree = on.backend(v.backend).path(v);
  if (tree === undefined) return [];
  const args = [tree, '-xdev', '-type', 'd', '-printf', '%D %i %n %m %U %G %P\\0'];
  const { stdout } = await on.host.run({ file: 'find', args, effect: 'read' });
  const [root, ...below] = stdout
    .split('\0')
    .map(row => /^(\d+) (\d+) (\d+) (\d+) (\d+) (\d+) (.*)$/s.exec(row));
  return below.flatMap(row => {
    if (!row || row[1] === root?.[1]) return [];
    const [, , inode, links, mode = '', uid = '', gid = '', path = ''] = row;
    const isStub = inode === STUB && links === '1';
    const kind = inode === SUBVOLUME ? 'subvolume' : isStub ? 'stub' : 'mount';
    // Node.js sees nothing in a directory whose name is not valid UTF-8, whatever is there.
    const isEmpty = !path.includes('\ufffd') && on.host.list(`${tree}/${path}`).length === 0;
    return [{ path: `/${path}`, kind, isEmpty, mode, uid, gid }];
  });
}

/** What is wrong with a tree in master, and the commands that fix it; undefined if nothing would be lost. */
export function whyLost(
  t: SeparateTree,
  root: string,
): { readonly what: string; readonly fix: string } | undefined {
  const at = root + t.path;
  if (t.kind === 'mount')
    return {
      what: `something is mounted on "${at}": a generation would not contain it`,
      fix: `umount ${at}`,
    };
  if (t.isEmpty) return undefined;
  return {
    what: `"${at}" is a subvolume of its own: a generation would not contain its files, and the next update would lose them`,
    fix: `mv ${at} ${at}.old && cp -a --reflink=auto ${at}.old ${at} && rm -rf ${at}.old`,
  };
}

/** Throws `refused` if a copy of master would lose files. */
export async function requireWholeMaster(on: Machine, master: Volume): Promise<void> {
  const root = on.backend(master.backend).path(master) ?? '';
  for (const t of await separateTrees(on, master)) {
    const lost = whyLost(t, root);
    if (lost) throw new MayflyError('refused', lost.what, { path: root + t.path, hint: lost.fix });
  }
}

/**
 * Makes the working copy one tree: replaces empty subvolumes, which systemd-tmpfiles(8) creates, and stubs with
 * directories. Throws `refused` if a generation would lose files of the working copy.
 */
export async function makeWhole(on: Machine, work: Volume): Promise<void> {
  const root = on.backend(work.backend).path(work) ?? '';
  for (const t of await separateTrees(on, work)) {
    if (t.kind === 'mount' || !t.isEmpty) {
      const what = t.kind === 'mount' ? 'a mount' : 'a subvolume of its own';
      throw new MayflyError(
        'refused',
        `"${t.path}" in the working copy is ${what}: the generation would not contain its files`,
        {
          path: t.path,
          hint: `create it as a directory first: mayfly enter master -- mkdir -p ${t.path}`,
        },
      );
    }
    on.host.rmdir(root + t.path);
    const args = ['-d', '-m', t.mode, '-o', t.uid, '-g', t.gid, '--', root + t.path];
    await on.host.run({ file: 'install', args, effect: 'write' });
  }
}
