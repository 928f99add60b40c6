/**
 * Seals: what a generation carries in the pool itself, so that its record can be rebuilt, and its tree is known again
 * after a copy, a restore or a move. A seal is written last when a generation is sealed, before its record; without one
 * a generation without a record is unfinished. It is bound to the number of its generation.
 */
import type { Host } from '../linux/host.ts';
import type { FileSystem } from '../volume/backend.ts';
import type { Generation } from './generations.ts';
import type { UnnamedNumbers } from './owners.ts';
import { hasFields } from './shape.ts';
import { isTreeContent, type TreeContent } from './tree-content.ts';

export interface Seal {
  readonly number: number;
  /** Random. */
  readonly id: string;
  /** It is in the mark in the tree, too: so it is unless an earlier version has sealed the generation. */
  readonly marked: boolean;
  /** That of the volume when it was sealed or was known again. */
  readonly identity: string;
  readonly created: string;
  readonly origin: string;
  readonly unnamed?: UnnamedNumbers;
  /** When it was known again on another disk; ISO 8601. */
  readonly moved?: string;
  /** LVM: that of its volume. */
  readonly fs?: FileSystem;
  /** It has passed its checks: it may become stable. */
  readonly proven: boolean;
  /** Why it is not promoted automatically. */
  readonly demoted?: string;
  /** What is in its tree, where a copy could be incomplete: not on LVM. */
  readonly content?: TreeContent;
}

/** A new random ID. */
export function newSealId(host: Pick<Host, 'random'>): string {
  return Array.from({ length: 4 }, () => host.random()).join('');
}

/** The text of the mark in the tree of a generation. */
export function markOf(number: number, id: string): string {
  return `${number} ${id}\n`;
}

/** The number in the text of a mark; undefined if it is none. */
export function numberInMark(mark: string | undefined): number | undefined {
  const number = /^([1-9]\d{0,8}) [0-9a-z]+\n$/.exec(mark ?? '')?.[1];
  return number === undefined ? undefined : Number(number);
}

/** The seal of a generation on record. */
export function sealOf(g: Generation, id: string, is: Pick<Seal, 'proven' | 'demoted'>): Seal {
  const { number, identity, created, origin, unnamed, content, moved } = g;
  const { fs } = g.volume;
  const own = { number, id, marked: g.seal !== undefined, identity, created, origin, ...is };
  return {
    ...{ ...own, ...(unnamed ? { unnamed } : {}), ...(content ? { content } : {}) },
    ...{ ...(moved === undefined ? {} : { moved }), ...(fs ? { fs } : {}) },
  };
}

export function sealText(s: Seal): string {
  return `${JSON.stringify(s)}\n`;
}

/** The seal of generation `number`; undefined if the text is cut short, damaged, or that of another generation. Pure. */
export function parseSeal(text: string | undefined, number: number): Seal | undefined {
  try {
    const s = JSON.parse(text ?? '') as Seal;
    const isWhole =
      hasFields(
        s,
        { number: 'number', id: 'text', identity: 'text', created: 'text', origin: 'text' },
        { unnamed: 'record', demoted: 'text', moved: 'text' },
      ) &&
      s.number === number &&
      [s.proven, s.marked].every(value => typeof value === 'boolean') &&
      /^[0-9a-z]+$/.test(s.id) &&
      (s.content === undefined || isTreeContent(s.content)) &&
      (s.fs === undefined || s.fs === 'ext4' || s.fs === 'xfs') &&
      (s.unnamed === undefined || hasFields(s.unnamed, { users: 'record', groups: 'record' }));
    return isWhole ? s : undefined;
  } catch {
    return undefined;
  }
}
