/** The size of a generation's tree: what its seal says of it, and what a copy must have. */
import { hasFields } from './shape.ts';

export interface TreeContent {
  /** Names, of files of every kind. */
  readonly entries: number;
  /** Of all regular files together; a file with several names counts once for each. */
  readonly bytes: number;
}

/** One line for each name: the size of a regular file, and nothing for the others. Pure. */
export function parseFileSizes(text: string): TreeContent {
  const lines = text.split('\n').slice(0, -1);
  return { entries: lines.length, bytes: lines.reduce((sum, line) => sum + Number(line), 0) };
}

export function isTreeContent(value: unknown): value is TreeContent {
  return hasFields(value, { entries: 'number', bytes: 'number' });
}

export function isSameContent(a: TreeContent, b: TreeContent): boolean {
  return a.entries === b.entries && a.bytes === b.bytes;
}
