/** What came with a generation that was demoted, and how long it is left out. */
import { describe, expect, it } from 'vitest';
import { markDemoted } from '../../src/state/generations.ts';
import {
  changedPackages,
  describeHeld,
  forgetHeldBack,
  type Held,
  pinsFor,
  planHeld,
  rolledBackTo,
} from '../../src/update/held-back.ts';
import type { PackageFacts } from '../../src/update/packages.ts';
import { preparedWorld } from '../world.ts';

const packages = (versions: Readonly<Record<string, string>>): Map<string, PackageFacts> =>
  new Map(
    Object.entries(versions).map(([name, version]) => [
      name,
      { version, section: '', provides: [], replaces: [] },
    ]),
  );

describe('what came with a demoted generation', () => {
  it('is what is new in it and what has another version, also an older one', () => {
    const before = packages({ same: '1', newer: '1', older: '2', gone: '1' });
    const after = packages({ same: '1', newer: '2', older: '1', fresh: '1' });
    expect(changedPackages(before, after)).toEqual({
      newer: { before: '1', after: '2' },
      older: { before: '2', after: '1' },
      fresh: { after: '1' },
    });
  });

  const noted = {
    3: { a: { before: '1', after: '2' }, fresh: { after: '1' } },
    5: { a: { before: '1', after: '3' } },
  };
  it.each<[string, Record<string, string>, string[], string[]]>([
    ['is left out of what it was compared with', { a: '1' }, [], ['3 a 2', '3 fresh 1', '5 a 3']],
    ['is not once the package has any other version', { a: '4' }, [], ['3 fresh 1']],
    ['is not once the package is gone', {}, [], ['3 fresh 1']],
    ['is not if the configuration names a new package', { a: '1' }, ['fresh', 'a'], ['3 a 2', '5 a 3']],
    ['is not once a new package is there', { a: '4', fresh: '9' }, [], []],
  ])('%s', (_what, installed, wanted, left) => {
    const held = planHeld(noted, packages(installed), wanted);
    expect(held.map(h => `${h.generation} ${h.name} ${h.version}`)).toEqual(left);
  });

  it('is pinned version by version, and named', () => {
    const held: Held[] = [
      { generation: 3, name: 'a', version: '1:2~rc-1+b1' },
      { generation: 5, name: 'b', version: '1' },
    ];
    expect(pinsFor(held)).toBe(
      'Package: a\nPin: version 1:2~rc-1+b1\nPin-Priority: -1\n\nPackage: b\nPin: version 1\nPin-Priority: -1\n',
    );
    expect(describeHeld(held)).toBe(
      'left out, because generation 3, 5 was demoted: a 1:2~rc-1+b1, b 1 ("mayfly update --allow-demoted" allows them)',
    );
    const many = Array.from({ length: 12 }, (_, i) => ({ generation: 3, name: `p${i}`, version: '1' }));
    expect(describeHeld(many)).toContain('p9 1 and 2 more (');
  });
});

describe('an update after a rollback', () => {
  it('starts from the stable generation while a newer one is demoted, also after that was removed', () => {
    const w = preparedWorld();
    const on = w.machine();
    expect(rolledBackTo(on)).toBeUndefined();
    markDemoted(w.host, on.paths, 2, 'x');
    expect(rolledBackTo(on)).toBeUndefined(); // there is no such generation
    w.put(on.paths.heldBack, JSON.stringify({ 2: {} }));
    expect(rolledBackTo(on)).toBe(1);
    forgetHeldBack(on, 3);
    expect(rolledBackTo(on)).toBe(1);
    forgetHeldBack(on, 2);
    expect(rolledBackTo(on)).toBeUndefined();
    w.put(on.paths.heldBack, JSON.stringify({ 1: { a: { after: '1' } } }));
    expect(rolledBackTo(on)).toBeUndefined(); // it is older than the stable one
  });

  it.each(['', '{', '[]', '{"2": 1}'])('does not care about a damaged file: %j', text => {
    const w = preparedWorld();
    const on = w.machine();
    w.put(on.paths.heldBack, text);
    expect(rolledBackTo(on)).toBeUndefined();
  });
});
