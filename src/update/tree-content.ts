/** Looks at a whole tree: a copy that is not complete is told from the whole by what is in it. */
import type { Host } from '../linux/host.ts';
import type { TreeContent } from '../state/tree-content.ts';

/** The lines that find(1) prints with these arguments are what {@link parseTreeContent} reads. Sizes of directories differ between file systems. */
const CONTENT_FORMAT = [
  ...['-type', 's', '-o', '-type', 'd', '-printf', '0 %U %G %m\\n'],
  ...['-o', '-printf', '%s %U %G %m\\n'],
] as const;

/** One line for each name: size, user, group, and mode in octal digits. Pure. */
export function parseTreeContent(text: string): TreeContent {
  const sums = { entries: 0, bytes: 0, owners: 0, modes: 0 };
  for (const line of text.split('\n').slice(0, -1)) {
    const [size = '', uid = '', gid = '', mode = ''] = line.split(' ');
    sums.entries += 1;
    sums.bytes += Number(size);
    sums.owners += Number(uid) + Number(gid);
    sums.modes += Number.parseInt(mode, 8);
  }
  return sums;
}

/** Looks at every name below `tree`, on its file system alone, without following symbolic links. Throws `command`. */
export async function countTree(host: Host, tree: string): Promise<TreeContent> {
  const { stdout } = await host.run({
    file: 'find',
    args: [tree, '-xdev', ...CONTENT_FORMAT],
    effect: 'read',
  });
  return parseTreeContent(stdout);
}
