/** What is in a generation's tree, in sums: its seal says it, and a copy must have it. */
import { hasFields } from './shape.ts';

/** Without sockets, which tar(1) leaves out. A file with several names counts once for each. */
export interface TreeContent {
  readonly entries: number;
  /** Of files, and of the targets of symbolic links: while it runs, tar(1) has empty files in their place. */
  readonly bytes: number;
  /** Sum of all numbers of users and groups: a copy by somebody else than root has lost them. */
  readonly owners: number;
  /** Sum of all modes: it has lost set-user-ID bits. */
  readonly modes: number;
}

/** The lines that find(1) prints with these arguments are what {@link parseTreeContent} reads. Sizes of directories differ between file systems. */
export const CONTENT_FORMAT = [
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

export function isTreeContent(value: unknown): value is TreeContent {
  return hasFields(value, { entries: 'number', bytes: 'number', owners: 'number', modes: 'number' });
}

export function isSameContent(a: TreeContent, b: TreeContent): boolean {
  return a.entries === b.entries && a.bytes === b.bytes && a.owners === b.owners && a.modes === b.modes;
}
