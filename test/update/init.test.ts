/** What `init` may remove. */
import { describe, expect, it } from 'vitest';
import { isFromInterruptedInit } from '../../src/update/init.ts';

describe('a leftover of an interrupted init', () => {
  const first = { unproven: [], last: 1 };
  it.each([
    ['can be a working copy', 'work', 'work', { unproven: [], last: undefined }, true],
    ['can be an incomplete first generation', 'generation', '1', first, true],
    ['can be the first master', 'master', 'master', first, true],
    ['can be a candidate', 'generation', '7', { unproven: [7], last: 9 }, true],
    ['can be the master of an interrupted destroy', 'master', 'master', { unproven: [3], last: 9 }, true],
    ['cannot be a generation that is not on record', 'generation', '3', { unproven: [], last: 3 }, false],
    ['cannot be generation 1 after others', 'generation', '1', { unproven: [], last: 2 }, false],
    [
      'cannot be the generation of another installation',
      'generation',
      '1',
      { unproven: [], last: undefined },
      false,
    ],
    [
      'cannot be the master of another installation',
      'master',
      'master',
      { unproven: [], last: undefined },
      false,
    ],
    ['cannot be a session', 'session', 'u1-00000001', first, false],
    ['cannot be a generation that is sealed', 'generation', '1', { ...first, sealed: [1] }, false],
    ['cannot be the master of one that is sealed', 'master', 'master', { ...first, sealed: [1] }, false],
    ['is the working copy beside one that is sealed', 'work', 'work', { ...first, sealed: [1] }, true],
  ] as const)('%s', (_, role, name, known, is) =>
    expect(isFromInterruptedInit({ role, name }, { sealed: [], ...known })).toBe(is),
  );
});
