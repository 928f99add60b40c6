/** The options of `mayfly end`. */
import { expect, it } from 'vitest';
import { waitOf } from '../../src/cli/end.ts';

it.each([
  [undefined, undefined, undefined],
  ['30s', undefined, 30_000],
  ['5min', 'The exam begins.', 300_000],
  ['24h', undefined, 86_400_000],
])('--in %j and --notice %j: %j', (time, notice, ms) => expect(waitOf(time, notice)).toBe(ms));

it.each([
  ['5', undefined, /--in takes a time/],
  ['0s', undefined, /--in takes a time/],
  ['25h', undefined, /at most 24h/],
  ['5 min', undefined, /not "5 min"/],
  ['-5min', undefined, /--in takes a time/],
  ['', undefined, /--in takes a time/],
  [undefined, 'text', /--notice needs --in/],
  ['5min', '', /--notice takes a text/],
  ['5min', 'x'.repeat(501), /at most 500 characters/],
])('--in %j and --notice %j are refused', (time, notice, words) =>
  expect(() => waitOf(time, notice)).toThrow(words),
);
