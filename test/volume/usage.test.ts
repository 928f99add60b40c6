/** How full a file system is, told as df(1) tells it. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { usageOf } from '../../src/volume/usage.ts';

describe('the usage of a file system', () => {
  const of = (total: number, used: number, free: number, inodes = 0, freeInodes = 0) =>
    usageOf({ space: () => ({ total, used, free, inodes, freeInodes }) }, '/p').percent;

  it.each([
    ['half full', of(100, 50, 50), 50],
    ['half full, with blocks reserved for root', of(100, 45, 45), 50],
    ['empty, with blocks reserved for root', of(100, 0, 95), 0],
    ['full but for what is reserved for root', of(100, 95, 0), 100],
    ['without any space', of(0, 0, 0), 100],
    ['out of inodes', of(100, 50, 50, 1000, 10), 99],
    ['without a limit of inodes', of(100, 50, 50, 0, 0), 50],
  ])('%s', (_what, percent, expected) => expect(percent).toBe(expected));

  it('is what df says of this one', () => {
    const said = execFileSync('df', ['-B1', '--output=used,avail', '/'], { encoding: 'utf8' });
    const [used = 0, avail = 0] = said.trim().split('\n')[1]?.trim().split(/\s+/).map(Number) ?? [];
    // Others write meanwhile.
    expect(usageOf(realHost(), '/').percent).toBeCloseTo((100 * used) / (used + avail), 1);
  });
});
