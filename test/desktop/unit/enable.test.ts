/** `enable` and `disable`: which scripts run, what is refused, and that nothing is left after a crash at any call. */
import { describe, expect, it } from 'vitest';
import { gdmPath, gdmWarnings, renderGdm } from '../../../src/desktop/adapters/gdm.ts';
import {
  type ConfigFile,
  LIGHTDM_FILE,
  lightdmWarnings,
  renderLightdm,
} from '../../../src/desktop/adapters/lightdm.ts';
import {
  PAM_HOOK,
  PAM_STACK,
  pamWarnings,
  stacksWithUserEnvironment,
} from '../../../src/desktop/adapters/pam.ts';
import {
  REMOTE_SERVERS,
  remoteWarnings,
  withHook,
  withoutHook,
} from '../../../src/desktop/adapters/remote.ts';
import { type Adapter, adapterSpecs } from '../../../src/desktop/adapters/specs.ts';
import { describeChange } from '../../../src/desktop/changes.ts';
import { disable, enable } from '../../../src/desktop/enable.ts';
import { LINGER_RULE, planLingerOff, planLingerOn } from '../../../src/desktop/linger-rule.ts';
import { planNamespacesOn, withNamespace, withoutNamespace } from '../../../src/desktop/pam-namespace.ts';
import { MayflyError } from '../../../src/errors.ts';
import { identify } from '../../../src/linux/process-id.ts';
import { login } from '../../../src/session/session.ts';
import { readSessions } from '../../../src/state/sessions.ts';
import { destroy } from '../../../src/update/destroy.ts';
import { callOf, preparedWorld, type World } from '../../world.ts';

const CONF = '/etc/lightdm/lightdm.conf.d';
const H = '/usr/lib/mayfly/hooks/lightdm';
const ENABLED = '/etc/mayfly/enabled';
const MODULE = '/usr/lib/x86_64-linux-gnu/security/pam_mayfly.so';
const SYSTEMD = 'session optional pam_systemd.so';
/** The files of Debian's packages. */
const XRDP = `#%PAM-1.0
auth required pam_env.so readenv=1
auth required pam_env.so readenv=1 envfile=/etc/default/locale
@include common-auth
@include common-account
@include common-session
@include common-password
`;
const TIGERVNC = '#%PAM-1.0\n\n@include common-auth\n@include common-account\n@include common-session\n';
const options = { dryRun: false, force: false };

/** Both display managers, our hooks, and files of the administrator with various modes. */
function world(): World {
  const w = preparedWorld();
  for (const directory of [
    CONF,
    '/etc/mayfly',
    '/etc/gdm3/PreSession',
    '/etc/gdm3/PostSession',
    '/usr/sbin',
    '/etc/systemd/system',
    '/run/systemd/system',
    '/run/mayfly/locks',
    `${H}`,
    '/usr/lib/mayfly/hooks/gdm',
    '/usr/lib/mayfly/hooks/pam',
    '/usr/share/pam-configs',
    '/etc/pam.d',
    '/usr/lib/x86_64-linux-gnu/security',
    '/usr/lib/pam.d',
    '/etc/polkit-1/rules.d',
  ])
    w.makeDirs(directory);
  for (const program of [
    '/usr/sbin/lightdm',
    '/usr/sbin/gdm3',
    '/usr/sbin/pam-auth-update',
    '/usr/sbin/xrdp-sesman',
    '/usr/sbin/tigervncsession',
    '/usr/lib/mayfly/hooks/session-wrapper',
    PAM_HOOK,
  ])
    w.put(program, '', 0o755);
  w.put(MODULE, '', 0o644);
  w.put('/etc/pam.d/schroot', 'auth sufficient pam_rootok.so\n', 0o644);
  w.put('/usr/lib/pam.d/systemd-user', `${SYSTEMD}\n`, 0o644);
  w.put('/usr/share/pam-configs/mayfly', '', 0o644);
  w.put(PAM_STACK, `session required pam_unix.so\n${SYSTEMD}\n`, 0o644);
  w.put('/etc/pam.d/xrdp-sesman', XRDP, 0o644);
  w.put('/etc/pam.d/tigervnc', TIGERVNC, 0o640);
  for (const name of ['session-setup', 'session-cleanup', 'session-setup-then', 'session-cleanup-after'])
    w.put(`${H}/${name}`, '', 0o755);
  for (const name of ['PreSession', 'PostSession']) w.put(`/usr/lib/mayfly/hooks/gdm/${name}`, '', 0o755);
  w.put(`${CONF}/10-lab.conf`, '[Seat:*]\nsession-setup-script=/usr/local/bin/greet "all of you"\n', 0o640);
  w.put(gdmPath('PreSession'), '#!/bin/sh\nexit 0\n', 0o755);
  w.put(gdmPath('PostSession'), '#!/bin/sh\necho bye\n', 0o750);
  w.installed.set('gdm3', '43.0-3');
  return w;
}

const on = (w: World, a: Adapter, o = options) => enable(w.machine(), a, o);
const off = (w: World, a: Adapter, o = options) => disable(w.machine(), a, o);

async function refusal(act: Promise<unknown>): Promise<MayflyError> {
  const error = await act.then(
    () => undefined,
    (e: unknown) => e,
  );
  if (!(error instanceof MayflyError)) throw new Error(`not refused: ${String(error)}`);
  return error;
}

describe('the settings for lightdm', () => {
  const file = (path: string, text: string): ConfigFile => ({ path, text });
  const S = 'session-setup-script';
  const C = 'session-cleanup-script';
  const plain = [`[Seat:*]`, `${S}=${H}/session-setup`, `${C}=${H}/session-cleanup`];

  it.each([
    ['are the plain ones without a file', [], plain],
    [
      'ignore a file without scripts',
      [file('/etc/lightdm/lightdm.conf', '[Seat:*]\nautologin-user=a\n')],
      plain,
    ],
    ['ignore a comment', [file('/etc/lightdm/lightdm.conf', `[Seat:*]\n#${S}=/x\n # ${S}=/x\n`)], plain],
    ['ignore another section', [file('/etc/lightdm/lightdm.conf', `[LightDM]\n${S}=/x\n`)], plain],
    ['ignore our own file', [file(LIGHTDM_FILE, `[Seat:*]\n${S}=/x\n`)], plain],
    ['ignore an empty setting', [file(`${CONF}/1.conf`, `[Seat:*]\n${S}=\n`)], plain],
    [
      'ignore our hook that was set by hand',
      [file(`${CONF}/1.conf`, `[Seat:*]\n${S}=${H}/session-setup\n`)],
      plain,
    ],
    [
      'keep a setup script',
      [file(`${CONF}/1.conf`, `[Seat:*]\n${S} = /x 'a b'\r\n`)],
      ['[Seat:*]', `${S}=${H}/session-setup-then /x 'a b'`, plain[2]],
    ],
    [
      'keep a cleanup script',
      [file('/usr/share/lightdm/lightdm.conf.d/1.conf', `[SeatDefaults]\n${C}=/x\n`)],
      ['[Seat:*]', plain[1], `${C}=${H}/session-cleanup-after /x`],
    ],
    [
      'keep the later of two scripts',
      [file(`${CONF}/1.conf`, `[Seat:*]\n${S}=/x\n`), file(`${CONF}/2.conf`, `[Seat:*]\n${S}=/y\n${S}=/z\n`)],
      ['[Seat:*]', `${S}=${H}/session-setup-then /z`, plain[2]],
    ],
    [
      'keep the script of one seat, which would override the general one',
      [file(`${CONF}/1.conf`, `[Seat:seat0]\n${S}=/x\n[Seat:*]\n${C}=/y\n`)],
      [
        '[Seat:*]',
        plain[1],
        `${C}=${H}/session-cleanup-after /y`,
        '[Seat:seat0]',
        `${S}=${H}/session-setup-then /x`,
      ],
    ],
    [
      'override an empty script of one seat',
      [file(`${CONF}/1.conf`, `[Seat:seat0]\n${S}=\n`)],
      [...plain, '[Seat:seat0]', plain[1]],
    ],
  ])('%s', (_name, files, lines) => {
    const desktops = 'sessions-directory=/run/mayfly/greeter/xsessions:/run/mayfly/greeter/wayland-sessions';
    expect(renderLightdm(files).split('\n').slice(1, -1)).toEqual(['[LightDM]', desktops, ...lines]);
  });

  it.each([
    [
      'lightdm.conf',
      '/etc/lightdm/lightdm.conf',
      `[Seat:*]\n\n${S}=/x\n`,
      /lightdm\.conf:3 \(session-setup/,
      /^move/,
    ],
    [
      'in a later file',
      `${CONF}/60.conf`,
      `[Seat:seat1]\n${C}=/x\n`,
      /60\.conf:2 \(session-cleanup/,
      /^move/,
    ],
    [
      'with our hook, in a later file',
      `${CONF}/60.conf`,
      `[Seat:*]\n${S}=${H}/session-setup\n`,
      /60\.conf:2/,
      /^remove these lines/,
    ],
    ['with an open quote', `${CONF}/1.conf`, `[Seat:*]\n${S}=/x "a\n`, /1\.conf:2/, /quotes/],
    ['that is only a comment', `${CONF}/1.conf`, `[Seat:*]\n${S}=# /x\n`, /1\.conf:2/, /quotes/],
  ])('refuse a script %s, with its line and a hint', async (_name, path, text, message, hint) => {
    const error = await refusal((async () => renderLightdm([file(path, text)]))());
    expect(error.message).toMatch(message);
    expect(error.facts.hint).toMatch(hint);
  });
});

it.each([
  ['none', `${CONF}/10.conf`, '[LightDM]\n', []],
  ['one before ours', `${CONF}/10.conf`, '[LightDM]\nsessions-directory=/x\n', [/10\.conf:2: .* no longer/]],
  [
    'one after ours',
    '/etc/lightdm/lightdm.conf',
    '\n\nsessions-directory = /x\n',
    [/lightdm\.conf:3 .*remove that line/],
  ],
])('there is a warning for another list of desktops in lightdm: %s', (_name, path, text, words) => {
  expect(lightdmWarnings([{ path, text }])).toEqual(words.map(w => expect.stringMatching(w)));
});

describe('gdm', () => {
  it('gets a warning for the script of one display, which gdm prefers to Default', () => {
    const w = world();
    w.put('/etc/gdm3/PreSession/:0', '');
    expect(gdmWarnings(w.host)).toMatchObject([{ what: expect.stringContaining('/etc/gdm3/PreSession/:0') }]);
  });

  it.each([
    [
      'a diversion by others',
      (w: World) => w.diversions.set(gdmPath('PreSession'), { to: '/x', by: 'LOCAL' }),
      /already diverted/,
    ],
    [
      'our hook, set by hand',
      (w: World) => w.put(gdmPath('PreSession'), 'exec /usr/lib/mayfly/hooks/gdm/PreSession\n'),
      /line 1$/,
    ],
    [
      'two scripts that are not ours',
      (w: World) => w.put(`${gdmPath('PreSession')}.before-mayfly`, ''),
      /neither was/,
    ],
  ])('is refused with %s', async (_name, change, message) => {
    const w = world();
    change(w);
    const before = w.picture();
    expect((await refusal(on(w, 'gdm'))).message).toMatch(message);
    expect(w.picture()).toBe(before);
  });

  it.each([
    ['version 50', (w: World) => w.installed.set('gdm3', '50.1-1')],
    ['version 51 with an epoch', (w: World) => w.installed.set('gdm3', '1:51-1')],
    ['no directory', (w: World) => w.host.rename('/etc/gdm3/PreSession', '/etc/gdm3/x')],
  ])('uses only PAM if it runs no scripts: %s', async (_name, change) => {
    const w = world();
    change(w);
    const before = w.picture();
    const { changes } = await on(w, 'gdm');
    expect(changes.filter(c => /gdm3/.test(c.path))).toEqual([]);
    expect(w.host.read(PAM_STACK)).toContain(PAM_HOOK);
    await off(w, 'gdm');
    expect(w.picture()).toBe(before);
  });

  it('gets the upgraded script back after an upgrade of gdm3', async () => {
    const w = world();
    await on(w, 'gdm');
    w.put(`${gdmPath('PreSession')}.before-mayfly`, 'newer', 0o755); // where dpkg writes it
    expect((await on(w, 'gdm')).changes).toEqual([]);
    await off(w, 'gdm');
    expect(w.host.read(gdmPath('PreSession'))).toBe('newer');
  });

  it('has no script afterwards if it had none before', async () => {
    const w = world();
    w.host.unlink(gdmPath('PreSession'));
    const before = w.picture();
    await on(w, 'gdm');
    expect(w.host.read(gdmPath('PreSession'))).toBe(renderGdm('PreSession'));
    await off(w, 'gdm');
    expect(w.picture()).toBe(before);
  });
});

it('a script of gdm that is a symlink is restored as a symlink', async () => {
  const w = world();
  w.host.symlink('/usr/local/bin/x', gdmPath('PreSession'));
  const before = w.picture();
  await on(w, 'gdm');
  expect(w.host.lstat(gdmPath('PreSession'))?.kind).toBe('file');
  await off(w, 'gdm');
  expect(w.picture()).toBe(before);
});

it('a symlink at the path of our file is not replaced', async () => {
  const w = world();
  w.host.symlink('/root/x', LIGHTDM_FILE);
  expect((await refusal(on(w, 'lightdm'))).code).toBe('unsafe');
});

describe('PAM', () => {
  it.each([
    ['is missing', [SYSTEMD], 0],
    ['is before systemd', [`session requisite pam_exec.so ${PAM_HOOK}`, SYSTEMD], 0],
    ['is after systemd', [SYSTEMD, `session requisite pam_exec.so ${PAM_HOOK}`], 1],
    [
      'is commented out before it and repeated after it',
      [`# ${PAM_HOOK}`, SYSTEMD, `session requisite pam_exec.so ${PAM_HOOK}`],
      1,
    ],
    ['is there without systemd', [`session requisite pam_exec.so ${PAM_HOOK}`], 0],
  ])('gets a warning only if its line is after systemd: it %s', (_name, lines, warnings) => {
    const w = world();
    w.put(PAM_STACK, lines.join('\n'));
    expect(pamWarnings(w.host)).toHaveLength(warnings);
  });

  it('leaves a stack that was changed by hand alone and says so', async () => {
    const w = world();
    w.put(PAM_STACK, `# by hand\n${SYSTEMD}\n`);
    const error = await refusal(on(w, 'pam'));
    expect(error.message).toMatch(/edited by hand/);
    expect(error.facts.hint).toMatch(/--force --enable mayfly/);
    expect(w.host.lstat(ENABLED)).toBeUndefined();
  });

  it('is not disabled while gdm needs it', async () => {
    const w = world();
    await on(w, 'gdm');
    expect((await refusal(off(w, 'pam'))).facts.hint).toMatch(/mayfly disable gdm/);
  });

  it('has stacks in which users set variables, outside comments', () => {
    const w = world();
    const line = 'session required pam_env.so envfile=/etc/default/locale';
    w.put('/etc/pam.d/sddm', `${line} user_readenv=1\n`);
    w.put('/etc/pam.d/other', `# ${line} user_readenv=1\n${line} user_readenv=0\n`);
    w.makeDirs('/usr/lib/pam.d');
    for (const name of ['other', 'vendor']) w.put(`/usr/lib/pam.d/${name}`, `${line} user_readenv=1\n`);
    expect(stacksWithUserEnvironment(w.host)).toEqual(['/etc/pam.d/sddm', '/usr/lib/pam.d/vendor']);
  });

  it('is refused without its profile', async () => {
    const w = world();
    w.host.unlink('/usr/share/pam-configs/mayfly');
    expect((await refusal(on(w, 'pam'))).message).toMatch(/cannot configure PAM/);
  });
});

/** A process with this program runs. */
function runs(w: World, pid: number, program: string): void {
  const comm = program.slice(0, 15);
  w.processes.set(pid, { start: String(pid), dev: w.rootDev, comm, ignoresTerm: true, cgroup: '' });
}

describe('the PAM stack of a server of remote desktops', () => {
  const line = `session optional pam_exec.so quiet stdout ${PAM_HOOK}`;
  it.each([
    ['Debian’s of xrdp', XRDP, '@include common-session'],
    ['Debian’s of tigervnc', TIGERVNC, '@include common-session'],
    [
      'its own lines',
      'auth required pam_unix.so\nsession required pam_limits.so\n',
      'session required pam_limits.so',
    ],
    ['an optional module', '-session optional pam_systemd.so', '-session optional pam_systemd.so'],
    ['a tab', 'session\trequired\tpam_unix.so\n', 'session\trequired\tpam_unix.so'],
  ])('gets our line before the first that opens a session, and loses it again: %s', (_, text, first) => {
    const after = withHook(text) ?? '';
    const lines = after.split('\n');
    expect(lines[lines.indexOf(line) + 1]).toBe(first);
    expect(withoutHook(after)).toBe(text);
  });
  it.each([['auth required pam_unix.so\n'], ['# session required pam_unix.so\n'], ['']])(
    'without a session part is refused: %j',
    async text => {
      expect(withHook(text)).toBeUndefined();
      const w = world();
      w.put('/etc/pam.d/xrdp-sesman', text);
      expect((await refusal(on(w, 'xrdp'))).message).toMatch(/xrdp-sesman" opens no session/);
    },
  );
  it('is named if a line was moved behind others', () => {
    const w = world();
    w.put('/etc/pam.d/xrdp-sesman', `${XRDP}${line}\n`);
    expect(remoteWarnings(w.host, REMOTE_SERVERS.xrdp)).toEqual([
      expect.stringMatching(/^line 8 of .*is not the first/),
    ]);
    w.put('/etc/pam.d/xrdp-sesman', withHook(XRDP) ?? '');
    expect(remoteWarnings(w.host, REMOTE_SERVERS.xrdp)).toEqual([]);
  });
  it.each([
    ['xrdp-sesman', 'xrdp'],
    ['xrdp-sesexec', 'xrdp'],
    ['tigervncsession', 'tigervnc'],
    ['greetd', 'pam'],
  ] as const)('ends the logins of its own processes: %s', async (comm, adapter) => {
    const w = world();
    w.processes.set(70, {
      start: '70',
      dev: w.rootDev,
      comm: comm.slice(0, 15),
      ignoresTerm: true,
      cgroup: '',
    });
    const caller = identify(w.host, 70);
    if (!caller) throw new Error('no process');
    for (const one of ['xrdp', 'tigervnc', 'pam'] as const) await on(w, one);
    await login(w.machine(), { adapter: 'pam', user: 'alice', caller });
    for (const one of ['xrdp', 'tigervnc', 'pam'] as const)
      if (one !== adapter) expect((await off(w, one)).changes.length).toBeGreaterThan(0);
    expect((await refusal(off(w, adapter))).message).toMatch(/there are sessions/);
  });
});

describe.each(['lightdm', 'gdm', 'pam', 'xrdp', 'tigervnc'] as const)('%s', adapter => {
  it.each([
    ['is missing', undefined],
    ['has a loader', '\u007fELF\u0002\u0001 /lib64/ld-linux-x86-64.so.2'],
    ['is a script', '#!/bin/sh\n'],
  ])('is refused if the interpreter of the hooks %s', async (_, text) => {
    const w = world();
    if (text === undefined) w.host.unlink('/bin/busybox');
    else w.put('/bin/busybox', text, 0o755);
    const before = w.picture();
    const { code, message, facts } = await refusal(on(w, adapter));
    expect([code, message]).toEqual(['refused', expect.stringContaining('"/bin/busybox"')]);
    expect(facts.hint).toBe('apt install busybox-static');
    expect(w.picture()).toBe(before);
  });

  it('is enabled once, and disabled byte for byte and with the same modes', async () => {
    const w = world();
    const before = w.picture();
    const dry = await on(w, adapter, { dryRun: true, force: false });
    expect(w.picture()).toBe(before);
    const done = await on(w, adapter);
    expect(done.changes.map(describeChange)).toEqual(dry.changes.map(describeChange));
    expect(done.changes.length).toBeGreaterThan(1);
    expect(w.host.read(ENABLED)).toBe('');
    const after = w.picture();
    expect((await on(w, adapter)).changes).toEqual([]);
    expect(w.picture()).toBe(after);
    const undone = await off(w, adapter, { dryRun: true, force: false });
    expect(w.picture()).toBe(after);
    expect((await off(w, adapter)).changes.map(describeChange)).toEqual(undone.changes.map(describeChange));
    expect(w.picture()).toBe(before);
    expect((await off(w, adapter)).changes).toEqual([]);
  });

  it('can crash at any call: repeating the command completes it, and disable restores everything', async () => {
    const pristine = world().picture();
    const good = world();
    await on(good, adapter);
    const enabled = good.picture();
    good.newProcess();
    await off(good, adapter);
    const steps = good.calls;
    const first = world();
    first.newProcess();
    await on(first, adapter);
    for (const [act, total] of [
      [on, first.calls],
      [off, steps],
    ] as const) {
      for (let n = 1; n <= total; n++) {
        for (const next of [on, off]) {
          const w = world();
          if (act === off) await on(w, adapter);
          w.newProcess();
          w.dieAt = n;
          await act(w, adapter).catch(() => undefined);
          w.newProcess();
          await next(w, adapter);
          const leftovers = [CONF, '/etc/mayfly', '/etc/gdm3/PreSession', '/etc/gdm3/PostSession'].flatMap(
            d => w.host.list(d).filter(name => name.endsWith('.tmp')),
          );
          expect(leftovers, `died at ${n}`).toEqual([]);
          expect(w.picture(), `died at ${n}`).toBe(next === on ? enabled : pristine);
        }
      }
    }
  });

  it('leaves the marker for Xsession to the other display manager', async () => {
    const other = adapter === 'lightdm' ? 'gdm' : 'lightdm';
    const w = world();
    const before = w.picture();
    await on(w, adapter);
    await on(w, other);
    await off(w, adapter);
    expect(w.host.lstat(ENABLED)).toBeDefined();
    await off(w, other);
    expect(w.picture()).toBe(before);
  });

  it.each([
    ['is not installed', (w: World) => w.host.unlink(adapterSpecs[adapter].program), 'missing-tool'],
    ['has no stable generation', (w: World) => w.host.unlink('/var/lib/mayfly/stable'), 'no-stable'],
    [
      'has a hook that cannot run',
      (w: World) => w.put('/usr/lib/mayfly/hooks/session-wrapper', ''),
      'refused',
    ],
    [
      'has a configuration directory that is a symlink',
      (w: World) => {
        const path = { gdm: '/etc/gdm3', lightdm: '/etc/lightdm' }[adapter as string] ?? '/etc/pam.d';
        const real = w.host.lstat.bind(w.host);
        Object.assign(w.host, {
          lstat: (p: string) => (p === path ? { ...real(p), kind: 'link' } : real(p)),
        });
      },
      'unsafe',
    ],
  ])('is refused if it %s', async (_name, change, code) => {
    const w = world();
    change(w);
    const before = w.picture();
    expect((await refusal(on(w, adapter))).code).toBe(code);
    expect(w.picture()).toBe(before);
  });

  it('prevents destroy while it is enabled', async () => {
    const w = world();
    await on(w, adapter);
    const before = w.picture();
    expect((await refusal(destroy(w.machine()))).facts.hint).toMatch(/mayfly disable/);
    expect(w.picture()).toBe(before);
    await off(w, adapter);
    await destroy(w.machine());
  });

  it('is not disabled while users are logged in, unless forced', async () => {
    const w = world();
    await on(w, adapter);
    const isRemote = adapter === 'xrdp' || adapter === 'tigervnc';
    if (isRemote) runs(w, 50, adapterSpecs[adapter].program.slice('/usr/sbin/'.length));
    await login(w.machine(), { ...callOf(w, 'alice', ':0'), adapter: isRemote ? 'pam' : adapter });
    const id = readSessions(w.host, w.machine().paths)[0]?.id;
    const before = w.picture();
    const error = await refusal(off(w, adapter));
    expect(error.facts.sessions).toEqual([id]);
    expect(w.picture()).toBe(before);
    await off(w, adapter === 'lightdm' ? 'gdm' : 'lightdm'); // these are not its sessions
    await off(w, adapter, { dryRun: false, force: true });
    expect(w.host.lstat(ENABLED)).toBeUndefined();
  });
});

describe('the namespaces of sessions', () => {
  const LINES = [
    '-session [success=ignore default=1] pam_mayfly.so',
    'session optional pam_limits.so', // reads the files of the session
  ];
  const FORMER = '# The next line was added by "mayfly enable" and is removed by "mayfly disable".';
  const former = `${FORMER}\n-session optional pam_mayfly.so\n`;

  it('take the place of lines of an earlier version, which are removed without a trace, too', async () => {
    const w = world();
    const [schroot, manager] = ['/etc/pam.d/schroot', '/etc/pam.d/systemd-user'];
    const text = w.host.read(schroot) ?? '';
    const include = '@include /usr/lib/pam.d/systemd-user\n';
    const own = `${FORMER.replace('The next line', 'This file')}\n${include}${former}`;
    for (const act of [on, off]) {
      w.put(schroot, text + former, 0o644);
      w.put(manager, own, 0o644);
      if (act === off) await on(w, 'lightdm');
      await act(w, 'lightdm');
      const expected = act === on ? withNamespace(text) : text;
      expect(w.host.read(schroot)).toBe(expected);
      expect(w.host.read(manager)?.includes(`${include}# The next two lines`)).toBe(
        act === on ? true : undefined,
      );
    }
    expect(withoutNamespace(`a\n${former}b\n`)).toBe('a\nb\n');
  });

  it.each([
    ['lines', 'auth sufficient pam_rootok.so\n# end\n'],
    ['no newline at its end', 'session required pam_unix.so'],
    ['nothing', ''],
  ])('are added to a stack with %s, and removed without a trace', (_what, text) => {
    const changed = withNamespace(text);
    expect(changed.split('\n').filter(line => line.includes('pam_mayfly.so'))).toHaveLength(1);
    expect(withoutNamespace(changed)).toBe(text);
    expect(withoutNamespace(text)).toBeUndefined();
  });

  it('leave lines alone that were added below ours', () => {
    const more = 'session optional pam_keyinit.so\n';
    expect(withoutNamespace(withNamespace('a\n') + more)).toBe(`a\n${more}`);
  });

  it('include the stack that systemd ships', () => {
    const [manager] = planNamespacesOn(world().host).filter(c => c.path === '/etc/pam.d/systemd-user');
    expect(
      manager?.act === 'write' && manager.text.split('\n').filter(line => !line.startsWith('#')),
    ).toEqual(['@include /usr/lib/pam.d/systemd-user', ...LINES, '']);
  });

  it('are added at the end of a stack of systemd that the administrator has changed', async () => {
    const w = world();
    const text = 'session required pam_limits.so\n';
    w.put('/etc/pam.d/systemd-user', text, 0o600);
    await on(w, 'lightdm');
    expect(w.host.read('/etc/pam.d/systemd-user')).toMatch(
      new RegExp(
        `^session required pam_limits.so\n# .*\n${LINES.map(line => line.replace('[', '\\[')).join('\n')}\n$`,
      ),
    );
    await off(w, 'lightdm');
    expect(w.host.read('/etc/pam.d/systemd-user')).toBe(text);
  });

  it('need the module, and leave a stack that names it already', () => {
    const w = world();
    w.put('/etc/pam.d/schroot', 'session required pam_mayfly.so\n', 0o644);
    expect(planNamespacesOn(w.host).map(c => c.path)).toEqual(['/etc/pam.d/systemd-user']);
    w.host.unlink(MODULE);
    expect(planNamespacesOn(w.host)).toEqual([]);
  });
});

describe('the rule of polkit about lingering', () => {
  const rule = (): string => {
    const [c] = planLingerOn(world().host);
    return c?.act === 'write' ? c.text : '';
  };
  const SELF = 'org.freedesktop.login1.set-self-linger';

  const scope = (o: object): string =>
    JSON.stringify({ include: ['*'], exclude: ['root'], min_uid: 1000, ...o });

  it.each<[string, string, string | Error, string, string]>([
    ['refuses it to somebody in scope', SELF, scope({}), '1001', 'no'],
    ['refuses it to somebody included by name', SELF, scope({ include: ['alice'] }), '1001', 'no'],
    ['refuses it to somebody included by group', SELF, scope({ include: ['@lab'] }), '1001', 'no'],
    ['leaves somebody alone who is excluded', SELF, scope({ exclude: ['alice'] }), '1001', 'not handled'],
    ['leaves an excluded group alone', SELF, scope({ exclude: ['@lab'] }), '1001', 'not handled'],
    ['leaves somebody alone who is not included', SELF, scope({ include: ['@x'] }), '1001', 'not handled'],
    [
      'refuses it if a group that could include them is not known',
      SELF,
      scope({ include: ['@gone'] }),
      '1001',
      'no',
    ],
    [
      'refuses it to no excluded user then',
      SELF,
      scope({ include: ['@gone'], exclude: ['@lab'] }),
      '1001',
      'not handled',
    ],
    ['leaves system users alone', SELF, scope({}), '999', 'not handled'],
    ['leaves nobody alone', SELF, scope({}), '65534', 'not handled'],
    ['refuses it without a number', SELF, scope({}), '', 'no'],
    ['refuses it without an answer', SELF, '', '1001', 'no'],
    ['refuses it if the file is of another shape', SELF, '{}', '1001', 'no'],
    ['refuses it if the question fails', SELF, new Error('no file'), '1001', 'no'],
    ['asks about nothing else', 'org.freedesktop.login1.power-off', new Error('asked'), '', 'not handled'],
    [
      'leaves it to administrators for others',
      'org.freedesktop.login1.set-user-linger',
      '',
      '',
      'not handled',
    ],
  ])('%s', (_, id, answer, uid, expected) => {
    type Rule = (
      action: { id: string },
      subject: { user: string; isInGroup: (g: string) => boolean },
    ) => string;
    let added: Rule = () => 'none';
    const polkit = {
      Result: { NOT_HANDLED: 'not handled', NO: 'no' },
      addRule: (f: Rule) => {
        added = f;
      },
      log: () => undefined,
      spawn: (argv: string[]) => {
        if (answer instanceof Error || argv.at(-1) === 'gone') throw answer;
        return argv[0] === '/usr/bin/id' ? `${uid}\n` : answer;
      },
    };
    new Function('polkit', rule())(polkit);
    expect(added({ id }, { user: 'alice', isInGroup: g => g === 'lab' })).toBe(expected);
  });

  it('is nowhere without polkit, and is removed also if it was changed', () => {
    const w = world();
    w.host.rmdir('/etc/polkit-1/rules.d');
    expect(planLingerOn(w.host)).toEqual([]);
    expect(planLingerOff(w.host)).toEqual([]);
    w.makeDirs('/etc/polkit-1/rules.d');
    w.put(LINGER_RULE, '// more\n');
    expect(planLingerOn(w.host)).toMatchObject([{ act: 'write', path: LINGER_RULE }]);
    expect(planLingerOff(w.host)).toMatchObject([{ act: 'remove', path: LINGER_RULE }]);
  });
});
