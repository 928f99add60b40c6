/** Which login a call of a display manager ends. */
import { describe, expect, it } from 'vitest';
import { endedLogin } from '../../src/session/hook-call.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import { type Login, readSessions } from '../../src/state/sessions.ts';
import { callOf, preparedWorld } from '../world.ts';

describe('a call of a logout hook', () => {
  const login = (o: Partial<Login>): Login => ({
    adapter: 'lightdm',
    display: ':0',
    caller: { pid: 50, start: '1' },
    since: 0,
    ...o,
  });
  const call = { adapter: 'lightdm' as const, display: ':0', caller: { pid: 50, start: '1' } };
  const alive = (o: object) => [
    {
      ...{ id: '1', uid: 1001, state: 'active', class: 'user', service: 'lightdm', display: ':0' },
      ...{ leader: 70, began: 0 },
      ...o,
    },
  ];
  it.each([
    ['ends the login on its display', [login({})], call, [], 0],
    [
      'for another display (a greeter for switching) ends none',
      [login({})],
      { ...call, display: ':1' },
      [],
      undefined,
    ],
    ['without a login ends none', [], call, [], undefined],
    ['ends the second of two logins', [login({ display: ':1' }), login({})], call, [], 1],
    ['ends none while logind shows it alive (an unlock)', [login({})], call, alive({}), undefined],
    ['ends the login while logind shows another display', [login({})], call, alive({ display: ':7' }), 0],
    ['ends the login while only an ssh login is alive', [login({})], call, alive({ service: 'sshd' }), 0],
    [
      'by gdm ends the login of the same worker',
      [login({ adapter: 'gdm' })],
      { ...call, adapter: 'gdm' as const },
      [],
      0,
    ],
    [
      'by gdm ends none of another worker',
      [login({ adapter: 'gdm' })],
      { ...call, adapter: 'gdm' as const, caller: { pid: 51, start: '1' } },
      [],
      undefined,
    ],
    [
      'by gdm ends none if the PID was reused',
      [login({ adapter: 'gdm' })],
      { ...call, adapter: 'gdm' as const, caller: { pid: 50, start: '9' } },
      [],
      undefined,
    ],
    [
      'PAM closes what it opened, whatever logind still shows',
      [login({ adapter: 'pam' })],
      { ...call, adapter: 'pam' as const },
      alive({ service: 'greetd', display: '' }),
      0,
    ],
    [
      'by gdm’s script ends the login that PAM opened in the same worker',
      [login({ adapter: 'pam' })],
      { ...call, adapter: 'gdm' as const },
      [],
      0,
    ],
    ['PAM’s call for lightdm’s login', [login({})], { ...call, adapter: 'pam' as const }, [], undefined],
    ['by lightdm ends no login of gdm', [login({ adapter: 'gdm' })], call, [], undefined],
  ])('%s', (_what, logins, c, sessions, expected) => {
    expect(endedLogin(logins, c, sessions)).toBe(expected);
  });
});

describe('a logout of somebody who had an account at the login', () => {
  const END = { stdout: '', stderr: '' };
  it.each([
    ['and has none any more', '', { code: 2, ...END }],
    ['of a directory that is not there now', '', { code: 1, ...END, stderr: 'no answer' }],
    ['and has another number now', 'alice:x:2002:2002::/home/alice:/bin/sh\n', { code: 2, ...END }],
    [
      'of a directory, and has another number now',
      '',
      { code: 0, ...END, stdout: 'alice:x:2002:2002::/home/alice:/bin/sh\n' },
    ],
  ])('%s ends the session', async (_, line, answer) => {
    const w = preparedWorld();
    await login(w.machine(), callOf(w, 'alice', ':0'));
    const passwd = w.host.read('/etc/passwd') ?? '';
    w.put('/etc/passwd', passwd.replace(/^alice:.*\n/m, line));
    w.programs.getent = () => answer;
    w.newProcess();
    const leave = (display: string) =>
      logout(w.machine(), callOf(w, 'alice', display), (s, on) => stop(on, s));
    if (line !== '') expect(await leave(':7')).toBe('not a logout');
    expect(await leave(':0')).toBe('ended');
    expect(readSessions(w.host, w.machine().paths)).toEqual([]);
  });
});
