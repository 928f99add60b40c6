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

export function isTreeContent(value: unknown): value is TreeContent {
  return hasFields(value, { entries: 'number', bytes: 'number', owners: 'number', modes: 'number' });
}

export function isSameContent(a: TreeContent, b: TreeContent): boolean {
  return a.entries === b.entries && a.bytes === b.bytes && a.owners === b.owners && a.modes === b.modes;
}
