/** Reading sizes. */
import { describe, expect, it } from 'vitest';
import { parseSize } from '../src/size.ts';

describe('sizes', () => {
  it.each([
    ['4096', 4096],
    ['1K', 1024],
    ['1.5G', 1610612736],
    ['x', Number.NaN],
  ])('%s is %d bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));
});
