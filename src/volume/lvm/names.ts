/**
 * Names and tags of our volumes in LVM. A volume is ours if it has our tag, which is written in the same commit of
 * the metadata as the volume itself. Names prove nothing: others can use or change them. They are for administrators.
 */
import { MayflyError } from '../../errors.ts';
import { isMadeOf, WORD } from '../../names.ts';
import { type BackendKind, isVolumeName, type Role, requireVolumeName, type Volume } from '../backend.ts';
import type { Row } from './report.ts';

/** The parts of a pool's path, `/dev/GROUP/NAME`. NAME is the thin pool and the prefix of all names and tags. */
export interface LvmPoolPath {
  readonly group: string;
  readonly name: string;
}

const isLvmName = (text: string): boolean =>
  text.length > 0 && text.length <= 60 && !/^[-.]/.test(text) && isMadeOf(text, `${WORD}+.-`);

/** Splits a pool's path into its parts; throws `corrupt` if it is not one. */
export function parsePoolPath(pool: string): LvmPoolPath {
  const [empty, dev, group = '', name = '', ...more] = pool.split('/');
  if (empty !== '' || dev !== 'dev' || more.length > 0 || !isLvmName(group) || !isLvmName(name))
    throw new MayflyError('corrupt', `"${pool}" is not of the form "/dev/GROUP/NAME"`, { path: pool });
  return { group, name };
}

/**
 * The tag that makes a volume ours, `mayfly:POOL:ROLE:NAME`; with `unfinished`, its tag while it is being created.
 * Throws `unsafe` if the name is not valid for its role.
 */
export function tagOf(v: Volume, unfinished = false): string {
  requireVolumeName(v);
  return `${prefixOf(v.pool)}${unfinished ? 'unfinished-' : ''}${v.role}:${v.name}`;
}

const prefixOf = (pool: string): string => `mayfly:${parsePoolPath(pool).name}:`;

/** The tag of the thin pool itself. */
export function poolTag(pool: string): string {
  return `${prefixOf(pool)}pool`;
}

/** Characters of a seal in one tag. LVM allows 1024 in a tag, and few others than letters and digits. */
const SEAL_PART = 900;

const sealPrefix = (pool: string): string => `mayfly-seal:${parsePoolPath(pool).name}:`;

/** The tags that hold the text of a seal. No snapshot inherits tags. Pure. */
export function sealTags(pool: string, text: string): string[] {
  const code = Buffer.from(text).toString('base64');
  const parts = code.match(new RegExp(`.{1,${SEAL_PART}}`, 'g')) ?? [];
  return parts.map((part, i) => `${sealPrefix(pool)}${i}:${part}`);
}

/** The tags of a row that hold a seal. Pure. */
export function sealTagsIn(pool: string, row: Pick<Row, 'tags'>): string[] {
  return row.tags.filter(tag => tag.startsWith(sealPrefix(pool)));
}

/** The text of the seal of a row; undefined if it has none. One that lacks a part is damaged. Pure. */
export function sealIn(pool: string, row: Pick<Row, 'tags'>): string | undefined {
  const parts = sealTagsIn(pool, row).map(tag => tag.slice(sealPrefix(pool).length).split(':'));
  if (parts.length === 0) return undefined;
  const inOrder = parts.sort(([a], [b]) => Number(a) - Number(b)).map(([, part = '']) => part);
  return Buffer.from(inOrder.join(''), 'base64').toString();
}

/** Our volume that a row of the report is; undefined for volumes of others. */
export function roleIn(
  pool: string,
  kind: BackendKind,
  row: Row,
): { readonly volume: Volume; readonly unfinished: boolean } | undefined {
  const prefix = prefixOf(pool);
  const [tag, ...more] = row.tags.filter(t => t.startsWith(prefix) && t !== poolTag(pool));
  if (tag === undefined || more.length > 0) return undefined; // two of our tags were not set by us
  const [state = '', name = ''] = tag.slice(prefix.length).split(':');
  const role = state.replace(/^unfinished-/, '') as Role;
  if (!isVolumeName(role, name)) return undefined;
  return { volume: { backend: kind, pool, role, name }, unfinished: state !== role };
}

/**
 * Name of a volume in LVM. Master and work swap roles, which only changes their tags, so their names are
 * `POOL-tree-RANDOM`; `random` returns the random text.
 */
export function lvNameOf(v: Volume, random: () => string): string {
  const { name } = parsePoolPath(v.pool);
  tagOf(v);
  if (v.role === 'session' || v.role === 'generation') return `${name}-${v.role}-${v.name}`;
  return `${name}-tree-${random()}`;
}

/** Path of a volume's device: dmsetup(8) doubles the hyphens of both names. */
export function deviceOf(group: string, name: string): string {
  return `/dev/mapper/${group.replaceAll('-', '--')}-${name.replaceAll('-', '--')}`;
}

/** Longest name of a device (DM_NAME_LEN), without the suffix "-cow" that LVM adds for its own parts. */
const MAX_DEVICE_NAME = 127 - '-cow'.length;

/** Whether the names of all session devices in a pool are short enough for the kernel. */
export function fits({ group, name }: LvmPoolPath): boolean {
  const longest = deviceOf(group, `${name}-session-u4294967295-00000000`);
  return longest.length - '/dev/mapper/'.length <= MAX_DEVICE_NAME;
}
