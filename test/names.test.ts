/** The syntax of names: one line per case. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isNumber, isSessionId } from '../src/names.ts';
import { SEED } from './campaign.ts';

console.log(`MAYFLY_SEED=${SEED}`);
fc.configureGlobal({ seed: SEED | 0 });

describe('ids and numbers', () => {
  it.each([
    ['u1001-0a1b2c3d', true],
    ['u0-00000000', true],
    ['u1001-0a1b2c3', false],
    ['u1001-0A1B2C3D', false],
    ['u-0a1b2c3d', false],
    ['u01-0a1b2c3d', false],
    ['u12345678901-0a1b2c3d', false],
    ['x1001-0a1b2c3d', false],
    ['u1001_0a1b2c3d', false],
    ['../u1-0a1b2c3d', false],
    ['', false],
  ])('%j is a session ID: %s', (text, expected) => expect(isSessionId(text)).toBe(expected));
  it('accept only what the equivalent regular expressions accept', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[u0-9a-f-]{0,24}$/)), text => {
        expect(isSessionId(text)).toBe(/^u(0|[1-9]\d{0,9})-[0-9a-f]{8}$/.test(text));
        expect(isNumber(text, 9)).toBe(/^(0|[1-9]\d{0,8})$/.test(text));
      }),
    );
  });
});
