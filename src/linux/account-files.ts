/** The texts of passwd(5), group(5) and the files beside them: the numbers in them, and changing these. Pure. */
import type { NumberMoves } from './ownership.ts';

export interface NamedNumber {
  readonly name: string;
  readonly number: number;
}

/** Names by their number, from lines of passwd(5) or group(5). Lines without a valid number are left out. */
export function namedNumbers(text: string): NamedNumber[] {
  return text.split('\n').flatMap(line => {
    const [name, , number] = line.split(':');
    return name && number && /^(0|[1-9]\d{0,9})$/.test(number) ? [{ name, number: Number(number) }] : [];
  });
}

/** The text of passwd(5) or group(5) with other numbers. */
export function renumberLines(text: string, moves: NumberMoves, file: 'passwd' | 'group'): string {
  const change = (field: string | undefined, map: ReadonlyMap<number, number>): string | undefined =>
    field === undefined || !/^\d+$/.test(field) ? field : String(map.get(Number(field)) ?? field);
  return text
    .split('\n')
    .map(line => {
      const fields: (string | undefined)[] = line.split(':');
      if (fields.length < 3) return line;
      fields[2] = change(fields[2], file === 'passwd' ? moves.users : moves.groups);
      if (file === 'passwd' && fields.length > 3) fields[3] = change(fields[3], moves.groups);
      return fields.join(':');
    })
    .join('\n');
}

/** The text of subuid(5) or subgid(5), whose lines may begin with a number; the ranges stay. */
export function renumberRanges(text: string, users: ReadonlyMap<number, number>): string {
  return text.replace(/^(\d+)(?=:)/gm, number => String(users.get(Number(number)) ?? number));
}

/** Whether a number lies in a range of subuid(5) or subgid(5): containers use it. */
export function isInRange(text: string, number: number): boolean {
  return text.split('\n').some(line => {
    const [, first, count] = line.split(':').map(Number);
    return first !== undefined && count !== undefined && number >= first && number < first + count;
  });
}

/** Adds groups to group(5), or, without numbers, to gshadow(5). */
export function withNewGroups(
  text: string,
  groups: readonly NamedNumber[],
  file: 'group' | 'gshadow',
): string {
  const lines = groups.map(g => (file === 'group' ? `${g.name}:x:${g.number}:` : `${g.name}:!::`));
  return [text.replace(/\n$/, ''), ...lines].filter(Boolean).join('\n').concat('\n');
}
