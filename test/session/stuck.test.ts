/** A session that cannot be ended is kept with its reason, or leads to a reboot if that is configured. */
import { describe, expect, it } from 'vitest';
import { identify } from '../../src/linux/process-id.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { onStuck } from '../../src/session/on-stuck.ts';
import { login } from '../../src/session/session.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions } from '../../src/state/sessions.ts';
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
    const { MayflyError } = await import('../../src/errors.ts');
    const { on, ran } = withPolicy(preparedWorld().machine(), policy);
    await onStuck(on, kind === 'stuck' ? new MayflyError('stuck', 'held') : new Error('x'));
    expect(ran).toEqual(expected);
  });

  it('never reboots while another session is live', async () => {
    const { w } = await stuckWorld();
    const { MayflyError } = await import('../../src/errors.ts');
    const { on, ran } = withPolicy(w.machine(), 'reboot');
    await onStuck(on, new MayflyError('stuck', 'held'));
    expect(ran).toEqual([]);
  });
});
