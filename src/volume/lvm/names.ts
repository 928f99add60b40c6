/**
 * How our volumes are named in LVM. A volume is ours by its tag, which is written in the same commit of the metadata
 * as the volume itself: names can be taken by others and changed by anybody. Names only say to people what it is.
 */
import { MayflyError } from '../../errors.ts';
import { isMadeOf, WORD } from '../../names.ts';
import { type BackendKind, isVolumeName, type Role, requireVolumeName, type Volume } from '../backend.ts';
import type { Row } from './report.ts';

/** A pool's path, `/dev/GROUP/NAME`, in its parts. NAME is the thin pool, and what names and tags begin with. */
export interface LvmPoolPath {
  readonly group: string;
  readonly name: string;
}

const isLvmName = (text: string): boolean =>
  text.length > 0 && text.length <= 60 && !/^[-.]/.test(text) && isMadeOf(text, `${WORD}+.-`);

export function parsePoolPath(pool: string): LvmPoolPath {
  const [empty, dev, group = '', name = '', ...more] = pool.split('/');
  if (empty !== '' || dev !== 'dev' || more.length > 0 || !isLvmName(group) || !isLvmName(name))
    throw new MayflyError('corrupt', `"${pool}" is not "/dev/GROUP/NAME"`, { path: pool });
  return { group, name };
}

/** The tag by which a volume is ours: `mayfly:NAME:ROLE:NAME`; with `unfinished` what it has while it is made. */
export function tagOf(v: Volume, unfinished = false): string {
  requireVolumeName(v);
  return `${prefixOf(v.pool)}${unfinished ? 'unfinished-' : ''}${v.role}:${v.name}`;
}

const prefixOf = (pool: string): string => `mayfly:${parsePoolPath(pool).name}:`;

/** The tag of the thin pool itself. */
export function poolTag(pool: string): string {
  return `${prefixOf(pool)}pool`;
}

/** What a row is of ours; undefined for other people's. */
export function roleIn(
  pool: string,
  kind: BackendKind,
  row: Row,
): { readonly volume: Volume; readonly unfinished: boolean } | undefined {
  const prefix = prefixOf(pool);
  const [tag, ...more] = row.tags.filter(t => t.startsWith(prefix) && t !== poolTag(pool));
  if (tag === undefined || more.length > 0) return undefined; // two of them: somebody else's doing
  const [word = '', name = ''] = tag.slice(prefix.length).split(':');
  const role = word.replace(/^unfinished-/, '') as Role;
  if (!isVolumeName(role, name)) return undefined;
  return { volume: { backend: kind, pool, role, name }, unfinished: word !== role };
}

/** Master and work change places, and a tag can: their names say nothing but that they are a tree. */
export function lvNameOf(v: Volume, chance: () => string): string {
  const { name } = parsePoolPath(v.pool);
  tagOf(v);
  if (v.role === 'session' || v.role === 'generation') return `${name}-${v.role}-${v.name}`;
  return `${name}-tree-${chance()}`;
}

/** Where the kernel's device is: dmsetup(8) doubles the hyphens of both names. */
export function deviceOf(group: string, name: string): string {
  return `/dev/mapper/${group.replaceAll('-', '--')}-${name.replaceAll('-', '--')}`;
}

/** Longest name of a device, less what LVM adds to it for parts of its own (DM_NAME_LEN, "-cow"). */
const LONGEST = 127 - '-cow'.length;

/** Whether the kernel can name every session's device in a pool. */
export function fits({ group, name }: LvmPoolPath): boolean {
  const longest = deviceOf(group, `${name}-session-u4294967295-00000000`);
  return longest.length - '/dev/mapper/'.length <= LONGEST;
}
