/** What prepares a session's tree to be the root of a mount namespace, and which groups of logind's end with it. */
import { describe, expect, it } from 'vitest';
import { judgeSandboxes } from '../../src/cli/doctor/sandboxes.ts';
import type { LogindSession } from '../../src/linux/logind.ts';
import { isEndedLogin } from '../../src/session/ended-scopes.ts';
import { withRanges } from '../../src/session/identity.ts';
import { hasNamespaces, linkRoot, namesModule, namespaceOps } from '../../src/session/mount-namespace.ts';
import { chrootedPaths, isChroot } from '../../src/session/root-kind.ts';
import { login, stop } from '../../src/session/session.ts';
import type { Login } from '../../src/state/sessions.ts';
import { callOf, preparedWorld } from '../world.ts';

const SYSTEM = { roots: '/run/mayfly/roots', run: '/run/mayfly' };

describe('the tree of a session', () => {
  it('gets its peer groups before the private place for the old root', () => {
    const ops = namespaceOps('/run/mayfly/roots/u1-a', SYSTEM).map(o => `${o.op} ${o.target}`);
    expect(ops).toEqual([
      'share /run/mayfly/roots/u1-a',
      'dir /run/mayfly/roots/u1-a/run',
      'dir /run/mayfly/roots/u1-a/run/mayfly',
      'dir /run/mayfly/roots/u1-a/run/mayfly/roots',
      'mount /run/mayfly/roots/u1-a/run/mayfly/roots',
      'dir /run/mayfly/roots/u1-a/run/mayfly/roots/.old',
    ]);
  });

  it('is left alone in another instance, which PAM does not know', () => {
    expect(namespaceOps('/srv/run/roots/u1-a', { roots: '/srv/run/roots', run: '/srv/run' })).toEqual([]);
  });

  it('leads to itself where schroot and systemd look for it', async () => {
    const w = preparedWorld();
    w.makeDirs('/etc/pam.d');
    w.put('/etc/pam.d/schroot', '-session optional pam_mayfly.so\n', 0o644);
    w.makeDirs('/etc/schroot/chroot.d');
    const s = await login(w.machine(), callOf(w, 'alice', ':0'));
    if (!s) throw new Error('no session');
    expect(s.namespace).toBe(true);
    expect(w.host.readlink(`${s.root}${s.root}`)).toBe('/');
    expect(w.host.readlink(`${s.root}/run/mayfly/users/${s.user.uid}/root`)).toBe('/');
    await stop(w.machine(), s);
  });
});

it('a run directory that the configuration binds into the session is not written to', async () => {
  const w = preparedWorld();
  const on = w.machine();
  const s = await login(on, callOf(w, 'alice', ':0'));
  if (!s) throw new Error('no session');
  const link = `${s.root}/run/mayfly/users/${s.user.uid}/root`;
  w.host.unlink(link);
  linkRoot(w.host, s, on.paths); // the directory exists by now, as a bound one would
  expect(w.host.readlink(link)).toBeUndefined();
  await stop(on, s);
});

describe('PAM', () => {
  it.each([
    ['-session optional pam_mayfly.so\n', true],
    ['# -session optional pam_mayfly.so\n', false],
    ['', false],
  ])('with the stack %j names the module: %s', (stack, names) => {
    expect(namesModule(stack)).toBe(names);
    const w = preparedWorld();
    w.makeDirs('/etc/pam.d');
    w.put('/etc/pam.d/schroot', stack, 0o644);
    expect(hasNamespaces(w.host, SYSTEM)).toBe(names);
    expect(hasNamespaces(w.host, { run: '/srv/run' })).toBe(false);
  });
});

describe('a session of logind', () => {
  const seat: Login = { adapter: 'lightdm', display: ':0', caller: { pid: 50, start: '1' }, since: 1000 };
  const through: Login = { adapter: 'pam', caller: { pid: 70, start: '1' }, since: 1000 };
  const beside: Login = { adapter: 'wrapper', caller: { pid: 71, start: '1' }, since: 1400 };
  const user = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };
  const shown = (o: Partial<LogindSession>): LogindSession => ({
    ...{ id: '4', uid: 1001, state: 'closing', class: 'user', service: 'lightdm', display: ':0', leader: 60 },
    ...{ began: 1500, ...o },
  });
  it.each<[string, Partial<LogindSession>, readonly Login[], boolean]>([
    ['of the display manager that is closing', {}, [seat], true],
    ['with an automatic login', { service: 'lightdm-autologin' }, [seat], true],
    ['of an earlier login on another display', { display: ':1', began: 1200 }, [seat], true],
    ['that is active', { state: 'active' }, [seat], false],
    ['of ssh', { service: 'sshd' }, [seat], false],
    ['of somebody else', { uid: 1002 }, [seat], false],
    ['that began before', { began: 900 }, [seat], false],
    ['without a manager', { class: 'user-light' }, [seat], true],
    ['whose home was never unlocked', { class: 'user-incomplete' }, [seat], true],
    ['of a greeter', { class: 'greeter' }, [seat], false],
    ['of a console, by PAM', { service: 'login' }, [through], false],
    ['of the display manager, if a remote desktop has kept the session', {}, [beside], true],
    ['of ssh, if that has kept the session', { service: 'sshd' }, [beside], false],
    ['of xrdp, which was not enabled', { service: 'xrdp-sesman' }, [beside], true],
    ['whose leader called us', { service: 'sddm', leader: 70, state: 'active' }, [through], true],
  ])('%s', (_what, o, logins, isOurs) => {
    expect(isEndedLogin({ user, logins, since: 1000 }, shown(o))).toBe(isOurs);
  });

  it('of a later login, while this session waits for its programs, is not ours', () => {
    const saving = (asked: number) => ({ asked, until: asked + 10_000, processes: [], who: 'x' });
    const isOurs = (asked: number): boolean =>
      isEndedLogin({ user, logins: [seat], since: 1000, saving: saving(asked) }, shown({ began: 1500 }));
    expect([isOurs(1400), isOurs(1600)]).toEqual([false, true]);
  });
});

describe('the ranges of subordinate IDs', () => {
  const alice = { name: 'alice', uid: 1001 };
  it.each([
    ['are those of the host', '', 'bob:1:2\nalice:100000:65536\n', 'alice:100000:65536\n'],
    ['by number too', '', '1001:100000:65536\n', '1001:100000:65536\n'],
    [
      'replace those of the generation',
      'alice:5:6\n1001:7:8\nbob:1:2',
      'alice:9:1\n',
      'bob:1:2\nalice:9:1\n',
    ],
    ['are none without any on the host', 'alice:5:6\n', '', ''],
    ['leave others alone', 'alicia:5:6\n10010:1:1\n', '', 'alicia:5:6\n10010:1:1\n'],
  ])('%s', (_what, text, host, expected) => expect(withRanges(text, host, alice)).toBe(expected));
});

describe('the kind of a session’s root', () => {
  const root = '/run/mayfly/roots/u1001-1';
  it.each([
    ['a namespace', true, [['/', 1001]], false],
    ['a chroot by the record', false, [], true],
    ['a chroot by the record of an earlier version', undefined, [['/', 1001]], true],
    [
      'a chroot that a process shows',
      true,
      [
        ['/', 1001],
        [root, 1001],
      ],
      true,
    ],
    ['a namespace, also if root looks into the tree', true, [[root, 0]], false],
    ['a namespace, whatever other sessions have', true, [['/run/mayfly/roots/u1002-1', 1002]], false],
  ] as const)('is %s', (_, namespace, processes, expected) => {
    const read = (path: string): string | undefined => {
      const uid = processes[Number(path.split('/')[2]) - 10]?.[1];
      return uid === undefined ? undefined : `Name:\tx\nUid:\t${uid}\t${uid}\n`;
    };
    const readlink = (path: string): string | undefined => processes[Number(path.split('/')[2]) - 10]?.[0];
    const list = (): string[] => ['self', '10', '11'];
    const chrooted = chrootedPaths({ ...preparedWorld().host, read, readlink, list });
    expect(isChroot({ root, ...(namespace === undefined ? {} : { namespace }) }, chrooted)).toBe(expected);
  });
});

describe('doctor', () => {
  const CLONE = 'kernel.unprivileged_userns_clone';
  it.each([
    ['nothing forbids them', true, true, {}, []],
    ['sessions are chroots', true, false, {}, [/entered by chroot only/]],
    ['no display manager uses Mayfly', false, false, {}, []],
    ['the kernel allows none', true, true, { 'user.max_user_namespaces': '0' }, [/max_user_namespaces is 0/]],
    ['Debian’s setting', true, true, { [CLONE]: '0' }, [/userns_clone is 0/]],
    ['the setting allows them', true, true, { [CLONE]: '1' }, []],
    ['AppArmor', true, true, { 'kernel.apparmor_restrict_unprivileged_userns': '1' }, [/apparmor/]],
    ['no mount namespaces either', true, true, { 'user.max_mnt_namespaces': '0' }, [/max_mnt_namespaces/]],
    ['the module is missing', true, true, {}, [/"pam_mayfly.so" is missing/], { module: false }],
    ['nothing is enabled, nor installed', false, false, {}, [], { module: false }],
    ['the kernel refused one', true, true, {}, [/^u1-1: entered by chroot only/], { refused: ['u1-1'] }],
  ])(
    'about sandboxes: %s',
    (_what, enabled, namespaces, values, findings, more?: Record<string, unknown>) => {
      const { findings: all } = judgeSandboxes({
        ...{ enabled, namespaces, module: true, refused: [] },
        values: new Map(Object.entries(values)),
        ...more,
      });
      expect(all.map(f => f.what)).toEqual(findings.map(f => expect.stringMatching(f)));
      expect(all.every(f => f.level === 'warning' && f.fix !== '')).toBe(true);
    },
  );
});
