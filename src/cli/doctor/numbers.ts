/** Users and groups of the stable generation whose numbers are not those of the host. */
import { isPlainDirectory } from '../../linux/mounts.ts';
import type { NumberMoves } from '../../linux/ownership.ts';
import { readableGeneration, stableNumber } from '../../state/generations.ts';
import {
  compareNumbers,
  DATABASES,
  NUMBER_KINDS,
  type NumberKind,
  type Renumbering,
} from '../../update/host-numbers.ts';
import { NONE_UNNAMED } from '../../update/renumber.ts';
import { check, type Finding, found, notApplicable, type Subject, warning } from './check.ts';

/** How many of each kind are listed. */
const NUMBERS_LISTED = 10;

/** A name, or a number without one, that an update will give another number. */
interface OtherNumber {
  readonly what: string;
  readonly number: number;
  /** Undefined: a free one, because the host gives it to another name. */
  readonly wanted: number | undefined;
}

function otherNumbers(r: Renumbering, kind: NumberKind): OtherNumber[] {
  const what = (number: number): string => {
    const names = r.named[kind].filter(n => n.number === number).map(n => `"${n.name}"`);
    return names.length > 0
      ? `the ${kind === 'users' ? 'user' : 'group'} ${names.join(' and ')}`
      : `a ${kind === 'users' ? 'user' : 'group'} without a name`;
  };
  const moves: NumberMoves[NumberKind] = r.moves[kind];
  return [
    ...[...moves].map(([number, wanted]) => ({ what: what(number), number, wanted })),
    ...r.homeless[kind].map(number => ({ what: what(number), number, wanted: undefined })),
  ];
}

export function judgeNumbers(number: number, r: Renumbering): Finding[] {
  return NUMBER_KINDS.flatMap(kind => {
    const all = otherNumbers(r, kind);
    const findings = all.slice(0, NUMBERS_LISTED).map(o => {
      const here =
        o.wanted === undefined
          ? `which the host gives to another name ("getent ${DATABASES[kind]} ${o.number}")`
          : `but ${o.wanted} on the host`;
      return warning(`${o.what} has number ${o.number} in generation ${number}, ${here}`, 'mayfly update');
    });
    const more = all.length - findings.length;
    if (more > 0) findings.push(warning(`${more} more ${kind} have other numbers`, 'mayfly update'));
    return findings;
  });
}

async function gatherNumbers(on: Subject): Promise<{ number: number; r: Renumbering } | string> {
  const stable = stableNumber(on.host, on.paths);
  const generation = stable === undefined ? undefined : readableGeneration(on.host, on.paths, stable);
  if (!generation) return 'there is no generation to compare with the host';
  const { number, volume, unnamed } = generation;
  const tree = on.backend(volume.backend).path(volume);
  if (tree === undefined)
    return 'a generation on a device is compared when an update is made and when users log in';
  if (!isPlainDirectory(on.host, tree, '/etc')) return `generation ${number} cannot be read`;
  return { number, r: await compareNumbers(on, tree, unnamed ?? NONE_UNNAMED) };
}

export const numberCheck = check({
  group: 'generations',
  title: 'numbers',
  gather: gatherNumbers,
  evaluate: facts =>
    typeof facts === 'string'
      ? notApplicable(facts)
      : found(judgeNumbers(facts.number, facts.r), 'users and groups have the same numbers as on the host'),
});
