/** Who shows a message on a screen: for a refused login "nobody", in a live session the person, and never root. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { type AlertsSent, alertSnapshots } from '../../src/service/snapshot-alerts.ts';
import { refusalText, screenAt, screenOf, showRefusal } from '../../src/session/refusal-dialog.ts';
import { login } from '../../src/session/session.ts';
import type { Machine } from '../../src/state/machine.ts';
import type { Login } from '../../src/state/sessions.ts';
import { callOf, preparedWorld, World } from '../world.ts';

const alice = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };
const POOL = { backend: 'lvm', path: '/dev/vg/pool' } as const;
const isWindow = (command: string): boolean => /zenity|xmessage/.test(command);

describe('a refused login', () => {
  it('is explained by "nobody" with a copy of the cookie of root, and the person gets none', async () => {
    const w = preparedWorld();
    const screen = screenOf({ DISPLAY: ':0', XAUTHORITY: '/run/lightdm/root/:0' });
    if (!screen) throw new Error('no screen');
    await showRefusal(w.host, screen, new MayflyError('full', 'the pool is full'));
    const windows = w.ran.filter(isWindow);
    expect(windows).toHaveLength(1);
    expect(windows[0]).toContain(' -- /run/lightdm/root/:0  timeout ');
    expect(windows[0]).toContain('setpriv --reuid 65534 --regid 65534 --clear-groups');
    expect(windows[0]).toContain('XAUTHORITY=/proc/self/fd/3');
  });
});

describe('the screen of a live login', () => {
  const at = (adapter: Login['adapter'], display: string | undefined, w = new World()) =>
    screenAt(w.host, { adapter, ...(display === undefined ? {} : { display }) }, alice, undefined);

  it.each([
    ['lightdm', '/home/alice/.Xauthority'],
    ['gdm', '/run/user/1001/gdm/Xauthority'],
    ['pam', '/run/user/1001/gdm/Xauthority'],
  ] as const)('of %s is opened by the person with their own cookie', (adapter, cookie) => {
    expect(at(adapter, ':0')?.viewer).toMatchObject({ uid: 1001, gid: 1001, cookie });
  });

  it('is never opened with the cookie of root, which can be that of the next person', () => {
    const w = new World();
    w.makeDirs('/run/lightdm/root');
    w.put('/run/lightdm/root/:0', 'of bob, who has the display now');
    expect(at('lightdm', ':0', w)?.viewer).toMatchObject({ uid: 1001, cookie: '/home/alice/.Xauthority' });
  });

  it('has the cookie in the directory of lightdm if lightdm keeps it there', () => {
    const w = new World();
    w.makeDirs('/run/lightdm/alice');
    expect(at('lightdm', ':0', w)?.viewer).toMatchObject({ cookie: '/run/lightdm/alice/xauthority' });
  });

  it.each([undefined, '', 'host:0', 'pts/1', ':0;x'])('is none for the display %j', display => {
    expect(at('lightdm', display)).toBeUndefined();
  });
});

describe('the alert for a full snapshot', () => {
  async function full(prepare: (w: World) => void = () => undefined) {
    const w = preparedWorld();
    w.makeDirs('/usr/bin');
    w.put('/usr/bin/xmessage', '');
    prepare(w);
    const s = await login(w.machine(), callOf(w, 'alice', ':0'));
    if (!s) throw new Error('out of scope');
    const snapshotUsage = async () => [{ session: s.id, percent: 100 }];
    const on: Machine = { ...w.machine(), backend: () => ({ ...w.backend(), snapshotUsage }) };
    const sent: AlertsSent = new Map();
    await alertSnapshots(on, POOL, sent);
    return { s, windows: w.ran.filter(isWindow) };
  }

  it('is shown by the person, in the control group of the session', async () => {
    const { s, windows } = await full();
    expect(windows).toHaveLength(1);
    expect(windows[0]).toContain(` --  /sys/fs/cgroup/mayfly.${s.id} timeout `);
    expect(windows[0]).toContain('setpriv --reuid 1001 --regid 1001 --clear-groups');
    expect(windows[0]).toContain('XAUTHORITY=/home/alice/.Xauthority xmessage');
  });

  it('is only logged if the window would be in the control group of the service', async () => {
    const { windows } = await full(w => {
      w.makeDirs('/run/systemd/system');
      w.host.unlink('/sys/fs/cgroup/cgroup.subtree_control');
    });
    expect(windows).toEqual([]);
  });
});

describe('the screen of a refused login', () => {
  it.each([
    [':0', '/var/run/lightdm/root/:0', true],
    [':0.1', '/run/lightdm/root/:0', true],
    ['', '/run/lightdm/root/:0', false], // gdm has no display yet
    [':0', '', false],
    ['host:0', '/run/lightdm/root/:0', false], // another machine's
    [':0', 'relative', false],
    [':0', '/a b', false],
    [':0', '/home/alice/.Xauthority', false], // root would copy what a person has put there
    [':0', '/run/lightdm/root/../../../etc/shadow', false],
  ])('is known from DISPLAY=%j and XAUTHORITY=%j: %s', (DISPLAY, XAUTHORITY, known) => {
    expect(screenOf({ DISPLAY, XAUTHORITY }) !== undefined).toBe(known);
  });
  it('shows the reason and its code', () => {
    const words = refusalText(new MayflyError('full', 'the pool is 95 % used'));
    expect(words).toMatch(/failed: the pool is 95 % used\./);
    expect(words).toMatch(/: MAYFLY-FULL$/);
  });
});
