/** A session that cannot be ended is kept with its reason, or leads to a reboot if that is configured. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { identify } from '../../src/linux/process-id.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { onStuck } from '../../src/session/on-stuck.ts';
import { login } from '../../src/session/session.ts';
import { loginBlockReason } from '../../src/state/login-block.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions, writeSession } from '../../src/state/sessions.ts';
import { preparedWorld, type World } from '../world.ts';

async function stuckWorld(): Promise<{ w: World; id: string }> {
  const w = preparedWorld();
  const caller = identify(w.host, 50);
  if (!caller) throw new Error('no display manager');
  const s = await login(w.machine(), { adapter: 'lightdm', user: 'alice', display: ':0', caller });
  w.failing.add('perl');
  return { w, id: s?.id ?? '' };
}

function withPolicy(on: Machine, on_stuck: 'keep' | 'reboot'): { on: Machine; ran: string[] } {
  const ran: string[] = [];
  const host: Machine['host'] = {
    ...on.host,
    run: async c => {
      ran.push(c.file);
      return c.file === 'shutdown' ? { code: 0, stdout: '', stderr: '' } : on.host.run(c);
    },
  };
  return { on: { ...on, host, config: { ...on.config, logout: { ...on.config.logout, on_stuck } } }, ran };
}

describe('a teardown that fails', () => {
  it('keeps the record, volume and pin, records the step, and is completed by recover', async () => {
    const { w, id } = await stuckWorld();
    await expect(end(w.machine(), id)).rejects.toThrow(/perl/);
    const [kept] = readSessions(w.host, w.machine().paths);
    expect(kept).toMatchObject({ id, state: 'ending', generation: 1 });
    expect(kept?.stuck).toMatch(/^mounts: "perl" failed/);
    expect([...w.volumes.keys()].some(k => k.endsWith(id))).toBe(true);
    expect((await recover(w.machine())).stuck).toEqual([expect.stringMatching(id)]);
    w.failing.clear();
    expect((await recover(w.machine())).ended).toEqual([id]);
    expect(readSessions(w.host, w.machine().paths)).toEqual([]);
  });

  it.each([
    ['keep', 'stuck', []],
    ['reboot', 'stuck', ['shutdown']],
    ['reboot', 'other', []],
  ] as const)('with on_stuck = "%s" and a %s error runs %j', async (policy, kind, expected) => {
    const { on, ran } = withPolicy(preparedWorld().machine(), policy);
    await onStuck(on, kind === 'stuck' ? new MayflyError('stuck', 'held') : new Error('x'));
    expect(ran).toEqual(expected);
  });

  /** The same machine with a logind that lists this session. */
  const withLogind = (w: World, on: Machine, one: object | undefined): Machine => {
    w.makeDirs('/run/systemd/sessions');
    const run: Machine['host']['run'] = async c => {
      if (!c.args.includes('busctl')) return on.host.run(c);
      if (!one) throw new MayflyError('command', 'no answer');
      const list = '{"type":"a(susso)","data":[[["3",1002,"bob","","/s/_33"]]]}';
      return {
        code: 0,
        stdout: c.args.includes('ListSessions') ? list : JSON.stringify({ data: [one] }),
        stderr: '',
      };
    };
    return { ...on, host: { ...on.host, run } };
  };
  const bobs = (o: object): object => ({
    ...{ User: { data: [1002, '/u'] }, Class: { data: 'user' }, State: { data: 'active' }, ...o },
  });

  it.each([
    ['somebody is logged in over ssh', bobs({ Service: { data: 'sshd' } }), []],
    ['somebody is on a console', bobs({ Service: { data: 'login' }, Type: { data: 'tty' } }), []],
    ['root is on a console', bobs({ Class: { data: 'user-early' } }), []],
    ['logind does not answer', undefined, []],
    ['only the greeter is there', bobs({ Class: { data: 'greeter' } }), ['shutdown']],
    ['whoever was there has left', bobs({ State: { data: 'closing' } }), ['shutdown']],
  ])('with on_stuck = "reboot", if %s, runs', async (_what, one, expected) => {
    const w = preparedWorld();
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    await onStuck(withLogind(w, on, one), new MayflyError('stuck', 'held'));
    expect(ran).toEqual(expected);
    expect(loginBlockReason(on) !== undefined).toBe(expected.length > 0);
  });

  it('never reboots while somebody is about to log in, and leaves them alone', async () => {
    const w = preparedWorld();
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    const { host, paths } = on;
    const caller = identify(w.host, 50);
    if (!caller) throw new Error('no display manager');
    const s = await login(w.machine(), { adapter: 'lightdm', user: 'alice', display: ':0', caller });
    if (s) writeSession(host, paths, { ...s, state: 'starting' });
    await onStuck(on, new MayflyError('stuck', 'held'));
    expect([ran, loginBlockReason(on)]).toEqual([[], undefined]);
  });

  it('never reboots while another session is live', async () => {
    const { w } = await stuckWorld();
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    await onStuck(on, new MayflyError('stuck', 'held'));
    expect(ran).toEqual([]);
  });
});
