/**
 * The files of seals in a pool of directories. The seal of generation N is `seals/N.json`, beside the tree, so that no
 * copy of the tree has it. The mark is a file in the tree, which every copy keeps: by it the tree is known again after
 * the pool was copied to another disk, where it has other inode numbers.
 */
import { isErrno } from '../errors.ts';
import { lookAt } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isNumber } from '../names.ts';
import { requireVolumeName, type Volume } from './backend.ts';

/** The name of the mark in the top directory of a tree. */
export const MARK = '.mayfly-seal';

/** Bytes; nothing longer is a mark, or a seal. */
const LONGEST_MARK = 200;
const LONGEST_SEAL = 2 ** 20;

export const sealDirectory = (pool: string): string => `${pool}/seals`;

/** Path of a generation's seal. Throws `unsafe` if the name is not valid. */
export function sealPath(v: Volume): string {
  requireVolumeName(v);
  return `${sealDirectory(v.pool)}/${v.name}.json`;
}

/** Undefined if there is no such file, or if it cannot be read: one bad sector must not stop recovery. */
function readUpTo(host: Host, path: string, longest: number): string | undefined {
  try {
    const there = lookAt(host, path); // what was put there by hand can be anything, also a fifo
    return there?.kind === 'file' && there.size <= longest ? host.read(path) : undefined;
  } catch {
    return undefined;
  }
}

/** The texts of all seals, by number; "" for one that cannot be read, which is a damaged one. */
export function readSealTexts(host: Host, pool: string): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  if (host.lstat(sealDirectory(pool))?.kind !== 'dir') return found;
  for (const file of host.list(sealDirectory(pool))) {
    const number = file.slice(0, -'.json'.length);
    if (!file.endsWith('.json') || number === '0' || !isNumber(number, 9)) continue;
    found.set(Number(number), readUpTo(host, `${sealDirectory(pool)}/${file}`, LONGEST_SEAL) ?? '');
  }
  return found;
}

/** Writes a seal, durably, in place of an earlier one. */
export function writeSealText(host: Host, v: Volume, text: string): void {
  const path = sealPath(v); // throws first
  host.mkdir(sealDirectory(v.pool), 0o700); // an earlier version made none
  host.write(path, text, { mode: 0o600, durable: true });
}

/**
 * Removes the seal of a generation whose tree is gone from its place, or is about to be erased there, durably. A tree
 * without its seal would be one that has lost it. Taking away needs no room: without any, the record of the removal must do.
 */
export function dropSeal(host: Host, v: Volume): void {
  if (v.role !== 'generation' || host.lstat(sealPath(v)) === undefined) return;
  try {
    host.unlink(sealPath(v));
    host.sync(sealDirectory(v.pool));
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
  }
}

/** The text of the mark in the tree at `tree`; undefined if it has none. */
export function readMarkIn(host: Host, tree: string): string | undefined {
  return readUpTo(host, `${tree}/${MARK}`, LONGEST_MARK);
}

/** Marks the tree at `tree`; without a text it removes the mark. A directory of that name is put aside. */
export function writeMarkIn(host: Host, tree: string, text: string | undefined): void {
  const path = `${tree}/${MARK}`;
  const kind = host.lstat(path)?.kind;
  if (text === undefined) {
    if (kind !== undefined && kind !== 'dir') host.unlink(path);
    return;
  }
  if (kind === 'dir') host.rename(path, `${path}.kept`);
  host.write(path, text, { mode: 0o600 });
}
