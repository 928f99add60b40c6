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

/** Bytes; nothing longer is a mark. */
const LONGEST_MARK = 200;

export const sealDirectory = (pool: string): string => `${pool}/seals`;

/** Path of a generation's seal. Throws `unsafe` if the name is not valid. */
export function sealPath(v: Volume): string {
  requireVolumeName(v);
  return `${sealDirectory(v.pool)}/${v.name}.json`;
}

/** Undefined if a file cannot be read: one bad sector must not stop recovery. */
function readOr(host: Host, path: string): string | undefined {
  try {
    return host.read(path);
  } catch {
    return undefined;
  }
}

/** The texts of all seals, by number; "" for one that cannot be read, which is a damaged one. */
export function readSealTexts(host: Host, pool: string): ReadonlyMap<number, string> {
  const found = new Map<number, string>();
  for (const file of host.list(sealDirectory(pool))) {
    const number = file.slice(0, -'.json'.length);
    if (!file.endsWith('.json') || number === '0' || !isNumber(number, 9)) continue;
    found.set(Number(number), readOr(host, `${sealDirectory(pool)}/${file}`) ?? '');
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
  const path = `${tree}/${MARK}`;
  const there = lookAt(host, path); // in a tree that was put there by hand it can be anything
  return there?.kind === 'file' && there.size <= LONGEST_MARK ? readOr(host, path) : undefined;
}

/** Marks the tree at `tree`; without a text it removes the mark. */
export function writeMarkIn(host: Host, tree: string, text: string | undefined): void {
  const path = `${tree}/${MARK}`;
  if (text !== undefined) host.write(path, text, { mode: 0o600 });
  else if (host.lstat(path)) host.unlink(path);
}
