/** An end that the person is told of: what they see, when, and that nothing ends too early. */
import { describe, expect, it } from 'vitest';
import { announceEnd, announcement } from '../../src/session/announced-end.ts';
import { end } from '../../src/session/end.ts';
import { login } from '../../src/session/session.ts';
import { callOf, preparedWorld } from '../world.ts';

const MINUTE = 60_000;
const isWindow = (command: string): boolean => command.includes(' xmessage ');

async function room(display = ':0') {
  const w = preparedWorld();
  w.makeDirs('/usr/bin');
  w.put('/usr/bin/xmessage', '');
  w.put('/usr/bin/busctl', '');
  const s = await login(w.machine(), callOf(w, 'alice', display));
  if (!s) throw new Error('out of scope');
  return { w, s };
}

it.each([
  [undefined, /^This session will be ended at \d\d:\d\d\. Please save .* log out\.$/],
  ['The exam begins.', /^The exam begins\.\n\nThis session will be ended at \d\d:\d\d\. Please save /],
])('the words %j are told with the time', (words, expected) =>
  expect(announcement(words, Date.now())).toMatch(expected),
);

describe('the person', () => {
  it('is told at once, and again a minute before, each time for as long as is left', async () => {
    const { w, s } = await room();
    const begun = w.host.monotonic();
    expect(await announceEnd(w.machine(), s, 5 * MINUTE, 'The exam begins.')).toBe(true);
    expect(w.host.monotonic() - begun).toBeGreaterThanOrEqual(5 * MINUTE);
    const told = w.ran.filter(isWindow);
    expect(told.map(line => / timeout -k 2 (\d+) /.exec(line)?.[1])).toEqual(['300', '60']);
    expect(
      told.every(line => line.includes('setpriv --reuid 1001') && line.includes('The exam begins.')),
    ).toBe(true);
  });
  it('is told once if there is little time', async () => {
    const { w, s } = await room();
    expect(await announceEnd(w.machine(), s, MINUTE, undefined)).toBe(true);
    expect(w.ran.filter(isWindow)).toHaveLength(1);
  });
  it('is told by the session bus, too, which a desktop without an X server has', async () => {
    const { w, s } = await room('wayland');
    await announceEnd(w.machine(), s, MINUTE, undefined);
    const [told = '', ...more] = w.ran.filter(line => line.includes(' busctl '));
    expect([more, w.ran.filter(isWindow)]).toEqual([[], []]);
    expect(told).toContain('setpriv --reuid 1001 --regid 1001 --clear-groups');
    expect(told).toContain('busctl --address=unix:path=/run/user/1001/bus');
  });
  it('who logs out meanwhile is not waited for', async () => {
    const { w, s } = await room();
    const on = w.machine();
    const begun = w.host.monotonic();
    const host = Object.create(w.host) as typeof w.host;
    host.sleep = async ms => {
      await w.host.sleep(ms);
      if (w.host.monotonic() - begun > MINUTE) await end(on, s.id);
    };
    expect(await announceEnd({ ...on, host }, s, 5 * MINUTE, undefined)).toBe(false);
    expect(w.host.monotonic() - begun).toBeLessThan(2 * MINUTE);
  });
});
