/** The checks of doctor, a line per case; and that its codes are the same wherever they are listed. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EXIT } from '../../src/advice.ts';
import {
  homeCheck,
  judgeHomes,
  judgeShells,
  judgeSudo,
  lingerCheck,
  sudoCheck,
} from '../../src/cli/doctor/accounts.ts';
import {
  type CheckResult,
  check,
  exitCode,
  fine,
  found,
  problem,
  readOnly,
  runChecks,
  type Subject,
  warning,
} from '../../src/cli/doctor/check.ts';
import {
  currentManager,
  currentManagerCheck,
  judgeCurrent,
  waylandCommand,
} from '../../src/cli/doctor/current-manager.ts';
import { judgeOffer, judgePam, judgeSnippet, partsBefore } from '../../src/cli/doctor/desktops.ts';
import { judgeDiscarded } from '../../src/cli/doctor/discarded.ts';
import {
  BUNDLE,
  describePendingChange,
  judgeDropIns,
  judgeEnabled,
  judgePart,
  judgeRunning,
} from '../../src/cli/doctor/display-managers.ts';
import { judgeSchrootFiles, judgeShutOut } from '../../src/cli/doctor/entry.ts';
import {
  judgeLogins,
  judgeRecords,
  judgeStable,
  judgeTopic,
  replacementFor,
} from '../../src/cli/doctor/generations.ts';
import { groupCheck } from '../../src/cli/doctor/groups.ts';
import { hostNameCheck, judgeHostName } from '../../src/cli/doctor/hostname.ts';
import { judgeMaster } from '../../src/cli/doctor/master.ts';
import { judgeCommit, judgeSnapshots } from '../../src/cli/doctor/pool.ts';
import { judgeLocation } from '../../src/cli/doctor/pool-location.ts';
import { judgeScript } from '../../src/cli/doctor/scripts.ts';
import { type BrokenSeal, judgeSeals, type Seals } from '../../src/cli/doctor/seals.ts';
import {
  judgeEntries as judgeDoors,
  judgeRedirects,
  judgeSchrootSessions,
  judgeSessions,
} from '../../src/cli/doctor/sessions.ts';
import {
  judgeCache,
  judgeConfig,
  judgeNode,
  judgeOwner,
  judgeReadable,
  judgeTools,
  type Tools,
} from '../../src/cli/doctor/setup.ts';
import {
  judgeRecovery,
  judgeSchedule,
  judgeService,
  parseUnits,
  type Units,
} from '../../src/cli/doctor/units.ts';
import { judgeUnrecorded } from '../../src/cli/doctor/unrecorded.ts';
import { allCodes, explainCode } from '../../src/cli/error-codes.ts';
import { lightdmBypasses } from '../../src/desktop/adapters/lightdm.ts';
import { MayflyError, publicCodeOf } from '../../src/errors.ts';
import { journalEntry } from '../../src/linux/log.ts';
import { type HealthFacts, healthIssues } from '../../src/update/health.ts';
import { programsFor } from '../../src/update/host-update.ts';
import type { Unrecorded } from '../../src/update/unrecorded.ts';
import type { Volume } from '../../src/volume/backend.ts';
import { preparedWorld, World } from '../world.ts';

/** The result of a check in one line: "ok", "not applicable", or the level, text and hint of each finding. */
function line({ applies, findings }: CheckResult): string {
  if (findings.length === 0) return applies ? 'ok' : 'not applicable';
  return findings.map(f => `${f.level}: ${f.what} | ${f.fix}`).join('; ');
}

describe('the check of programs', () => {
  it.each([
    [undefined, /^problem: "node" is not installed \| apt install nodejs$/],
    ['v18.18.2', /^problem: .*18\.19 or later is required/],
    ['v16.20.0', /^problem/],
    ['v18.19.0', /^ok$/],
    ['v20.1.0', /^ok$/],
    ['what', /^problem/],
  ])('judges Node.js %s', (version, words) => expect(line(judgeNode(version))).toMatch(words));

  const tools: Tools = {
    ...{ backend: 'overlay', systemd: false, adapters: [], host: [] },
    ...{ missing: new Set(), schroot: { uid: 0, mode: 0o4755 } },
  };
  it.each<[string, Partial<Tools>, RegExp]>([
    ['all of them', {}, /^ok$/],
    ['no perl', { missing: new Set(['perl']) }, /"perl" is missing \| apt install perl-base$/],
    ['no btrfs where it is not needed', { missing: new Set(['btrfs']) }, /^ok$/],
    ['no btrfs', { backend: 'btrfs', missing: new Set(['btrfs']) }, /apt install btrfs-progs$/],
    ['no systemctl', { systemd: true, missing: new Set(['systemctl']) }, /apt install systemd$/],
    [
      'no programs for host updates that are off',
      { missing: new Set(['unattended-upgrade', 'shutdown']) },
      /^ok$/,
    ],
    [
      'no program for the host update',
      {
        host: programsFor({ update: 'unattended-upgrades', command: [], reboot: 'never' }),
        missing: new Set(['unattended-upgrade', 'shutdown']),
      },
      /^problem: the program "unattended-upgrade" is missing \| apt install unattended-upgrades$/,
    ],
    [
      'no program for the reboot',
      {
        host: programsFor({ update: 'command', command: ['x'], reboot: 'idle' }),
        missing: new Set(['unattended-upgrade', 'shutdown']),
      },
      /^problem: the program "shutdown" is missing \| apt install systemd-sysv$/,
    ],
    [
      'no program for dialogs',
      { adapters: ['lightdm'], missing: new Set(['zenity', 'xmessage']) },
      /^warning: .*apt install zenity$/,
    ],
    ['one of two programs for dialogs', { adapters: ['lightdm'], missing: new Set(['zenity']) }, /^ok$/],
    ['schroot without setuid', { schroot: { uid: 0, mode: 0o755 } }, /not setuid root.*--reinstall schroot$/],
    ['schroot of another owner', { schroot: { uid: 7, mode: 0o4755 } }, /not setuid root/],
  ])('judges %s', (_, t, words) => expect(line(judgeTools({ ...tools, ...t }))).toMatch(words));
});

describe('the check of the configuration', () => {
  it.each([
    [0, 0o644, false, /^ok$/],
    [0, 0o664, false, /^problem: "\/x" is writable by users other than root \| chmod go-w \/x$/],
    [0, 0o1777, false, /^problem: "\/x" is writable by users other than root \| move the files out of \/x$/],
    [0, 0o646, false, /chmod go-w/],
    [0, 0o644, true, /is accessible to users other than root \| chmod go= \/x$/],
    [0, 0o700, true, /^ok$/],
    [1001, 0o600, false, /belongs to uid 1001, not to root \| chown root: \/x$/],
    [1001, 0o666, false, /chown root: \/x; problem: .*chmod go-w/],
  ])('judges a file of uid %d with mode %o, secret: %s', (uid, mode, secret, words) => {
    expect(line(found(judgeOwner({ path: '/x', stat: { uid, mode }, secret }), ''))).toMatch(words);
  });
  it('finds no wrong owner of a missing file', () =>
    expect(judgeOwner({ path: '/x', stat: undefined })).toEqual([]));

  it.each([
    ['10-foo', true, /^ok$/],
    ['10-foo', false, /^warning: "\/d\/10-foo" is ignored: it is not executable \| chmod \+x \/d\/10-foo$/],
    ['x.sh', true, /its name has characters other than .* \| mv -n -- \/d\/x\.sh \/d\/x$/],
    ['x.sh', false, /, and it is not executable \| mv -n -- \/d\/x\.sh \/d\/x && chmod \+x \/d\/x$/],
    ["a b's.py", true, /\| mv -n -- '\/d\/a b'\\''s\.py' \/d\/a-b-s$/],
    ['x~', true, /^ok$/],
    ['x.dpkg-new', true, /^ok$/],
    ['.placeholder', false, /^ok$/],
    ['README', false, /^ok$/],
  ])('judges a script %j, executable: %s', (name, executable, words) =>
    expect(line(found(judgeScript({ directory: '/d', name, executable }), ''))).toMatch(words),
  );

  const stat = { dev: 1, ino: 1, uid: 0, gid: 0, size: 1, mtimeMs: 0, ctimeMs: 0, birthtimeMs: 0 };
  it.each([
    ['file', 0o644, /^ok$/],
    ['file', 0o640, /^warning: "\/x" is not readable by all users.* \| chmod o\+r \/x$/],
    ['dir', 0o755, /^ok$/],
    ['dir', 0o754, /\| chmod o\+rx \/x$/],
    ['dir', 0o711, /\| chmod o\+rx \/x$/],
  ] as const)('judges a %s of mode %o that all users must read', (kind, mode, words) => {
    expect(line(found(judgeReadable({ path: '/x', stat: { ...stat, kind, mode } }), ''))).toMatch(words);
    expect(judgeReadable({ path: '/x', stat: undefined })).toEqual([]);
  });

  it('suggests a fix without an editor if the path is not a file', () => {
    const invalid = new MayflyError('config', '"/c" is a directory', { file: '/c', hint: 'mv /c /c.off' });
    expect(line(judgeConfig({ invalid, files: [] }))).toMatch(/\| mv \/c \/c\.off$/);
  });

  it('reports an error with file, line, hint and its own exit status', () => {
    const invalid = new MayflyError('config', '/c:3: unknown option "x"', {
      file: '/c',
      line: 3,
      hint: 'did you mean "y"?',
    });
    const verdict = judgeConfig({ invalid, files: [] });
    expect(line(verdict)).toMatch(
      /\(did you mean "y"\?\); the last valid one is used \| sensible-editor \+3 \/c$/,
    );
    expect(line(judgeConfig({ invalid, files: [], isGuess: true }))).toContain('; logins are refused |');
    expect(exitCode([verdict])).toBe(EXIT.config);
    expect(line(judgeConfig({ invalid: undefined, files: [] }))).toBe('ok');
  });

  const config = new World().machine().config;
  const cached = { path: '/c', there: true, cache: { key: 'k', config }, key: 'k', config };
  it.each([
    ['up to date', cached, /^ok$/],
    ['missing', { ...cached, there: false, cache: undefined }, /^ok$/],
    [
      'not owned by root alone',
      { ...cached, cache: undefined },
      /^warning: .*cannot be trusted.* \| rm \/c$/,
    ],
    ['made from other files', { ...cached, key: 'l' }, /^ok$/],
    [
      'different from the files',
      { ...cached, config: { ...config, min_uid: 7 } },
      /^problem: .*differs from the configuration files.* \| rm \/c$/,
    ],
    ['beside an invalid configuration', { ...cached, config: undefined }, /^ok$/],
  ])('judges a cache that is %s', (_, c, words) => expect(line(judgeCache(c))).toMatch(words));
});

describe('the check of display managers', () => {
  it.each([
    [[], false, /^not applicable$/],
    [[], true, /^problem: .*no display manager is enabled.* \| mayfly enable lightdm$/],
    [['gdm'], true, /^ok$/],
    [['gdm'], false, /^problem: .*run on the host.* \| mayfly enable gdm$/],
  ] as const)('judges %j enabled with the marker %s', (calling, marker, words) => {
    expect(line(judgeEnabled({ calling, marker, likely: 'lightdm' }))).toMatch(words);
  });

  it.each([
    [['lightdm'], 'lightdm', /^ok$/],
    [['lightdm'], 'sddm', /^problem: .*starts sddm, .*enabled for lightdm: .* \| mayfly enable pam$/],
    [['lightdm'], 'gdm3', /\| mayfly enable gdm$/],
    [['xrdp'], 'lightdm', /\| mayfly enable lightdm$/],
    [['lightdm', 'pam'], 'sddm', /^ok$/],
    [['pam'], 'gdm', /^ok$/],
    [['lightdm'], 'lxdm', /^problem: .*starts lxdm.* \| dpkg-reconfigure lightdm$/],
    [['lightdm'], undefined, /^not applicable$/],
    [[], 'sddm', /^not applicable$/],
  ] as const)('judges %j enabled where the machine starts %s', (calling, name, words) => {
    expect(line(judgeCurrent({ calling, name }))).toMatch(words);
  });

  it.each([
    [['[Wayland]\nSessionCommand=/usr/lib/mayfly/hooks/session-wrapper --login\n'], /^ok$/],
    [
      ['[X11]\nSessionCommand=/usr/lib/mayfly/hooks/session-wrapper --login\n'],
      /^warning: .*Wayland.*on the host/,
    ],
    [
      [
        '[Wayland]\nSessionCommand=/usr/lib/mayfly/hooks/session-wrapper --login\n',
        '[Wayland]\nSessionCommand = /x\n',
      ],
      /^warning: /,
    ],
    [[], /^warning: .* \| printf .*session-wrapper --login.* >>\/etc\/sddm\.conf$/],
  ])('judges Wayland desktops of sddm with the settings %j', (texts, words) => {
    const wayland = waylandCommand(texts);
    expect(line(judgeCurrent({ calling: ['pam'], name: 'sddm', wayland }))).toMatch(words);
  });

  it.each([
    ['/lib/systemd/system/sddm.service', '/usr/sbin/lightdm\n', 'sddm'],
    ['', '/usr/sbin/lightdm\n', undefined],
    ['/dev/null', undefined, undefined],
    [undefined, '/usr/sbin/lightdm\n', 'lightdm'],
    [undefined, undefined, undefined],
  ])('names the display manager of systemd %j and of Debian %j', (unit, choice, name) => {
    expect(currentManager(unit, choice)).toBe(name);
  });

  const stat = {
    kind: 'file',
    dev: 1,
    ino: 1,
    uid: 0,
    gid: 0,
    mode: 0o755,
    size: 1,
    mtimeMs: 0,
    ctimeMs: 0,
    birthtimeMs: 0,
  } as const;
  it.each([
    ['a program', stat, true, /^ok$/],
    ['a text file', { ...stat, mode: 0o644 }, false, /^ok$/],
    ['not executable', { ...stat, mode: 0o644 }, true, /not executable.*\| chmod 0755 \/h$/],
    ['missing', undefined, true, /"\/h" is missing \| apt install --reinstall mayfly # or .*FILE\.deb/],
    ['a directory', { ...stat, kind: 'dir' as const }, true, /"\/h" is not a file/],
    ['writable by others', { ...stat, mode: 0o775 }, true, /chmod go-w \/h$/],
  ])('judges a part of the package that is %s', (_, s, program, words) => {
    expect(line(found(judgePart({ path: '/h', stat: s, program }), ''))).toMatch(words);
  });

  it('covers all parts that the package installs', () => {
    const at = ' usr/lib/mayfly/dist';
    const installed = ['mayfly.install', 'rules']
      .flatMap(name => readFileSync(`debian/${name}`, 'utf8').split('\n'))
      .filter(row => row.includes('dist/') && row.includes(at.trim()));
    const shipped = installed.map(row => /dist\/(\S+\.c?js)\b/.exec(row)?.[1]).filter(Boolean);
    expect([...new Set(shipped)].sort()).toEqual([...BUNDLE].sort());
    const onUse = /const packages = \[(.*)\]/.exec(readFileSync('build.mjs', 'utf8'))?.[1];
    const built = onUse?.match(/\w+/g)?.map(name => `${name}.cjs`) ?? [];
    expect(built.length).toBeGreaterThan(0);
    expect(BUNDLE).toEqual(expect.arrayContaining(built));
  });

  it.each([
    [{ act: 'write', path: '/f', text: '', mode: 0o644, why: 'w' }, true, '"/f" was changed'],
    [{ act: 'write', path: '/f', text: '', mode: 0o644, why: 'w' }, false, '"/f" is missing: w'],
    [{ act: 'rename', path: '/f', to: '/g', why: 'w' }, true, '"/f" was created after "mayfly enable"'],
    [{ act: 'divert', path: '/f', to: '/g', why: 'w' }, true, '"/f" is not diverted: w'],
  ] as const)('describes the missing change %j, path exists: %s', (change, there, words) =>
    expect(describePendingChange(change, there)).toBe(words),
  );

  const inside = { enabled: ['lightdm'], systemd: true, findings: [], left: ['/d'], overriding: [] } as const;
  it.each([
    ['in place', inside, /^ok$/],
    ['without systemd', { ...inside, systemd: false }, /^not applicable$/],
    ['never written', { ...inside, enabled: [], left: [] }, /^not applicable$/],
    ['left over', { ...inside, enabled: [] }, /^warning: .*there are still \/d \| mayfly disable lightdm$/],
    [
      'overridden',
      { ...inside, overriding: ['/e'] },
      /^problem: "\/e" overrides the root directory.*\| rm \/e$/,
    ],
  ] as const)('judges drop-ins that are %s', (_, d, words) => expect(line(judgeDropIns(d))).toMatch(words));

  const times = { written: 10_000, started: 20_000 };
  const lightdm = { enabled: true, findings: [], file: '/f', restart: 'systemctl restart lightdm', ...times };
  it.each([
    ['running with our file', lightdm, /^ok$/],
    ['not enabled', { ...lightdm, enabled: false }, /^not applicable$/],
    ['not running', { ...lightdm, started: undefined }, /^ok$/],
    [
      'running since before the file was written',
      { ...lightdm, written: 30_000 },
      /^problem: .*\| systemctl restart lightdm$/,
    ],
    ['started while the file was written', { ...lightdm, written: 21_000 }, /^ok$/],
  ])('judges lightdm %s', (_, f, words) => expect(line(judgeRunning(f))).toMatch(words));

  const W = 'session-wrapper';
  it.each([
    ['Debian’s own', `[Seat:*]\n${W}=/etc/X11/Xsession\n`, []],
    ['ours', `[Seat:*]\n${W}=/usr/lib/mayfly/hooks/session-wrapper\n`, []],
    ['another', `[Seat:*]\n${W}=/opt/x\n`, ["sed -i '2s/^/#/' /c"]],
    ['another that is overridden again', `[Seat:*]\n${W}=/opt/x\n${W}=/etc/X11/Xsession\n`, []],
    ['another for one seat', `[Seat:*]\n${W}=/etc/X11/Xsession\n[Seat:1]\n${W}=\n`, ["sed -i '4s/^/#/' /c"]],
    ['none', '[Seat:*]\n', []],
  ])('judges the session wrapper of lightdm: %s', (_, text, fixes) => {
    expect(lightdmBypasses([{ path: '/c', text }]).map(b => b.fix)).toEqual(fixes);
  });
});

describe('the check of desktops', () => {
  const text = readFileSync('xsession.d/00mayfly', 'utf8');
  it.each([
    [false, true, undefined, /^not applicable$/],
    [true, true, text, /^ok$/],
    [
      true,
      true,
      undefined,
      /is missing: desktops run on the host \| apt install --reinstall .*force-confmiss mayfly # or .*FILE\.deb/,
    ],
    [true, true, '# nothing', /was changed: desktops run on the host \| rm .*00mayfly && apt/],
    [true, false, text, /Xsession" is missing \| apt install x11-common$/],
  ])('judges the Xsession snippet: wanted %s, Xsession %s, text %s', (wanted, xsession, t, words) => {
    expect(line(judgeSnippet({ wanted, xsession, text: t, before: [] }))).toMatch(words);
  });

  it.each([
    [['00mayfly', '20x11', '00zz', '01a'], []],
    [
      ['00abc', '0', '00-b', '00A'],
      ['00abc', '0', '00-b', '00A'],
    ],
    [['00local.dpkg-old', '00a~', '.00a'], []], // which run-parts ignores
  ])('names what Xsession runs before: %j', (names, before) => {
    expect(partsBefore(names, '00mayfly')).toEqual(before);
  });

  it('warns of what runs before the session is entered', () => {
    expect(line(judgeSnippet({ wanted: true, xsession: true, text, before: ['00abc'] }))).toBe(
      'warning: "/etc/X11/Xsession.d/00abc" runs on the host, before the session is entered | mv /etc/X11/Xsession.d/00abc /etc/X11/Xsession.d/0100abc',
    );
  });

  it.each([
    [[], 0, /^not applicable$/],
    [['gdm'], 2, /^ok$/],
    [['lightdm'], undefined, /^problem: .* is missing: users cannot choose a desktop \| mayfly recover$/],
    [
      ['lightdm'],
      0,
      /^problem: the greeter has no desktops of the stable generation.* \| mayfly recover # .*mayfly enter master --promote -- sh/,
    ],
  ])('judges %j enabled with %s desktops offered', (looking, offered, words) => {
    expect(line(judgeOffer({ looking, offered }))).toMatch(words);
  });

  const ours = 'session optional pam_exec.so quiet /usr/lib/mayfly/hooks/pam/session';
  const systemd = 'session\toptional\tpam_systemd.so ';
  it.each([
    ['without the file', undefined, /^not applicable$/],
    ['without our line', `${systemd}\n`, /^not applicable$/],
    ['with a comment', `${systemd}\n# mayfly\n`, /^not applicable$/],
    ['with our line before pam_systemd', `${ours}\n${systemd}\n`, /^ok$/],
    [
      'with our line after pam_systemd',
      `# x\n${systemd}\n${ours}\n`,
      /^problem: line 3 of .* comes after pam_systemd\.so.* \| move line 2 of .* below line 3$/,
    ],
    ['with one of two lines after pam_systemd', `${ours}\n${systemd}\n${ours}\n`, /^problem: line 3 [^;]*$/],
    ['without pam_systemd', `${ours}\nsession optional pam_systemd_home.so\n`, /^ok$/],
  ])('judges the PAM stack %s', (_, t, words) =>
    expect(line(judgePam({ text: t, isStatic: true, open: [] }))).toMatch(words),
  );

  it('finds a hook that obeys the variables of users, and names the stacks that let them set some', () => {
    const state = { text: `${ours}\n${systemd}\n`, isStatic: false, open: ['/etc/pam.d/sddm'] };
    expect(line(judgePam(state))).toMatch(
      /^problem: .*\(\/etc\/pam\.d\/sddm: user_readenv=1\) \| apt install busybox-static$/,
    );
    expect(line(judgePam({ ...state, text: '' }))).toBe('not applicable');
  });
});

describe('the check of pool and generations', () => {
  const pool = { backend: 'overlay', path: '/p' } as const;
  const place = {
    pool,
    image: true,
    damage: undefined,
    mounted: false,
    marked: true,
    trouble: undefined,
    master: true,
    isElsewhere: false,
    isEmpty: false,
    isUnmarked: false,
    isInTheWay: false,
    place: '/p',
    lost: undefined,
    records: ['/a', '/b'],
  };
  it.each([
    ['it exists', place, /^ok$/],
    ['its record is lost', { ...place, pool: undefined, lost: pool }, /^problem: .*\| mayfly recover$/],
    [
      'it is another one',
      { ...place, mounted: true, marked: false, isOther: true },
      /another pool.*if it is the right one, forget the old records: .* \| umount \/p && mount \/p &&/,
    ],
    [
      'it is another one, in the same file system',
      { ...place, mounted: false, marked: false, isOther: true },
      /another pool.* \| rm -f .* && mayfly recover$/,
    ],
    ['only its mark is gone', { ...place, marked: false, isUnmarked: true }, /is missing \| mayfly recover$/],
    [
      'it is gone',
      { ...place, marked: false },
      /is gone.* \| rm -f \/a \/b && mayfly init --backend overlay$/,
    ],
    [
      'its volumes are gone',
      { ...place, master: false, isEmpty: true },
      /on record are gone from the pool at "\/p": restore it.* \| rm -f \/a \/b && mayfly init --backend overlay$/,
    ],
    [
      'its subvolumes are gone',
      { ...place, master: false, isEmpty: true, pool: { ...pool, backend: 'btrfs' as const } },
      /was probably put back to a snapshot.* && mayfly init --backend btrfs$/,
    ],
    [
      'there is something else in its place',
      { ...place, pool: undefined, isInTheWay: true },
      /\| mv \/p \/p.kept && mayfly init$/,
    ],
    ['there is none', { ...place, pool: undefined }, /^problem: .*\| mayfly init$/],
    [
      'its file system is not mounted',
      { ...place, marked: false, isElsewhere: true },
      /not be mounted \| mount \/p && mayfly recover$/,
    ],
    [
      'it is a full thin pool',
      { ...place, trouble: { what: 'it is full', fix: 'lvextend' } },
      /^problem: it is full \| lvextend$/,
    ],
    ['it has no master', { ...place, master: false }, /from the stable generation \| mayfly update$/],
    ['it is a mounted image', { ...place, pool: { ...pool, image: '/i' }, mounted: true }, /^ok$/],
    [
      'its image is not mounted',
      { ...place, pool: { ...pool, image: '/i' } },
      /not mounted at "\/p" \| mayfly recover$/,
    ],
    [
      'its image is missing',
      { ...place, pool: { ...pool, image: '/i' }, image: false },
      /"\/i" is missing.* \| rm -f \/a \/b && mayfly init --backend overlay$/,
    ],
    [
      'its image is damaged, mounted or not',
      { ...place, pool: { ...pool, image: '/i' }, damage: { what: 'it was truncated', fix: 'restore' } },
      /^problem: it was truncated \| restore$/,
    ],
  ])('judges the pool: %s', (_, p, words) => expect(line(judgeLocation(p))).toMatch(words));

  it.each([
    [[79], /^ok$/],
    [[20, 92.5], /^warning: the snapshot of u1-00000001 is 92 % full \| mayfly end u1-00000001$/],
    [[100], /^warning: the snapshot of u1-00000000 is full.* \| mayfly end u1-00000000$/],
  ])('judges stores that are %o percent full', (percents, words) =>
    expect(
      line(judgeSnapshots(percents.map((percent, i) => ({ session: `u1-0000000${i}`, percent })))),
    ).toMatch(words),
  );

  it.each([
    [undefined, /^not applicable$/],
    ['rw,space_cache=v2', /^warning: .*every 30 s.* \| mount -o remount,commit=5 \/p$/],
    ['rw,commit=120', /every 120 s/],
    ['rw,commit=5,subvol=/', /^ok$/],
    ['rw,commit=1', /^ok$/],
  ])('judges btrfs mounted with %s', (options, words) => {
    expect(line(judgeCommit(options === undefined ? undefined : { place: '/p', options }))).toMatch(words);
  });

  const day = 86_400_000;
  const facts: HealthFacts = {
    ...{
      stable: 2,
      usable: true,
      history: undefined,
      sealed: 0,
      sessions: 0,
      stuck: 0,
      pool: { percent: 1 },
    },
    ...{ demoted: [], limits: { warn: 85, full: 95 } },
  };
  it.each([
    ['age', {}, day, /^ok$/],
    ['age', {}, 4 * day, /^warning: no update for 4 days \| mayfly update$/],
    ['age', {}, 20 * day, /^problem: no update for 20 days/],
    ['age', { history: { lastAttempt: 0, lastSuccess: 20 * day, result: 'promoted' } }, 20 * day, /^ok$/],
    ['pool', { pool: { percent: 96 } }, 0, /^problem: the pool is 96 % full \| [^;]*$/],
    [
      'pool',
      { pool: { percent: 96, of: 'metadata' as const } },
      0,
      /^problem: the metadata of the pool is 96 % full \| [^;]*$/,
    ],
    [
      'pool',
      { pool: { percent: 100, problem: { what: 'it cannot be queried', fix: 'x' } } },
      0,
      /^problem: it cannot be queried \| [^;]*$/,
    ],
    ['demoted', { demoted: [3] }, 0, /^warning: demoted: 3 \| mayfly update --force$/],
    [
      'update',
      { history: { lastAttempt: 0, result: 'failed', phase: 'check' } },
      0,
      /^warning: the last update failed in check/,
    ],
    [
      'update',
      { history: { lastAttempt: 0, result: 'interrupted', phase: 'refresh' } },
      0,
      /^warning: the last update was interrupted in refresh/,
    ],
  ] as const)('judges the topic %s with %j', (topic, f, now, words) => {
    expect(line(judgeTopic(healthIssues({ ...facts, ...f }, now), topic, ''))).toMatch(words);
  });

  it.each([
    ['usable', facts, [2], true, /^ok$/],
    [
      'missing',
      { ...facts, stable: undefined },
      [1, 2],
      true,
      /no generation is stable \| mayfly rollback 2$/,
    ],
    ['not usable', { ...facts, usable: false }, [1], true, /2 is not usable \| mayfly rollback 1$/],
    ['not usable, and there is no other', { ...facts, usable: false }, [], true, /\| mayfly update --force$/],
    ['not usable, and neither is master', { ...facts, usable: false }, [], false, /\| mayfly recover$/],
    ['never created', { ...facts, stable: undefined }, [], false, /\| mayfly init$/],
  ])('judges a stable generation that is %s', (_, f, good, master, words) => {
    const { stable } = f;
    expect(line(judgeStable({ all: healthIssues(f, 0), stable, good, master }))).toMatch(words);
  });

  it.each([
    [[1, 2], 2, 'mayfly rollback 1'],
    [[1, 2, 3], 2, 'mayfly rollback 3'],
    [[2], 2, 'mayfly update --force'],
    [[], 2, 'mayfly update --force'],
  ])('suggests, with the usable generations %j and the stable %i, "%s"', (good, stable, fix) =>
    expect(replacementFor(good, stable)).toBe(fix),
  );

  it.each([
    [[], /^ok$/],
    [
      [{ number: 1, path: '/g/1.json' }],
      /^warning: .*generation 1 is unusable and is kept: "\/g\/1.json" is corrupt \| rm \/g\/1.json && mayfly recover$/,
    ],
  ])('judges corrupt records %j', (broken, words) => expect(line(judgeRecords(broken))).toMatch(words));

  const door = { held: undefined, hold: '/h', stable: 2, probation: undefined };
  it.each([
    [door, /^ok$/],
    [{ ...door, held: 'a restart' }, /^warning: logins are blocked: a restart \| shutdown -c; rm \/h$/],
    [{ ...door, probation: { number: 2, previous: 1, failures: 0 } }, /^ok$/],
    [
      { ...door, stable: 3, probation: { number: 3, previous: 1, failures: 2 } },
      /^warning: 2 logins.* \| mayfly rollback 1$/,
    ],
    [{ ...door, probation: { number: 1, previous: 0, failures: 1 } }, /^ok$/],
  ])('judges whether logins are possible with %j', (d, words) => expect(line(judgeLogins(d))).toMatch(words));
});

describe('the check of seals', () => {
  const broken = (number: number): BrokenSeal => ({
    number,
    changed: '/etc/motd',
    record: `/g/${number}.json`,
  });
  it.each<[string, Seals | undefined, RegExp]>([
    ['no generation in a directory', undefined, /^not applicable$/],
    ['intact ones', { stable: 2, good: [1, 2], broken: [] }, /^ok$/],
    [
      'the stable one, changed',
      { stable: 2, good: [1, 2], broken: [broken(2)] },
      /^problem: generation 2 was changed after it was sealed, at least "\/etc\/motd": .* \| mayfly rollback 1$/,
    ],
    [
      'all of them, changed',
      { stable: 2, good: [1, 2], broken: [broken(1), broken(2)] },
      /^warning: generation 1 .* \| mv \/g\/1.json \/g\/1.retired && mayfly recover; problem: .* \| mayfly update --force$/,
    ],
  ])('judges %s', (_, seals, words) => expect(line(judgeSeals(seals))).toMatch(words));
});

describe('the check of groups', () => {
  async function examine(nsswitch: string, config: string, directory: Readonly<Record<string, string>>) {
    const w = new World();
    w.put('/etc/nsswitch.conf', nsswitch);
    w.put('/etc/group', 'root:x:0:\nstaff:x:50:\n');
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', config);
    w.programs.perl = ([, program = '', , ...names]) => {
      expect(program).toContain('getgrnam');
      const groups = names.map(name => directory[name]?.split(':') ?? []);
      return { stdout: groups.map(([, , gid, of]) => (gid ? `${gid} ${of}\n` : '\n')).join('') };
    };
    w.programs.getent = ([flag, service, ...args]) => {
      expect([flag, service, args.slice(0, 2)]).toEqual(['-s', 'sss', ['--', 'group']]);
      const found = directory[args[2] ?? ''];
      return found === undefined ? { code: 2 } : { stdout: found };
    };
    const on = {
      ...w.machine(),
      host: readOnly(w.host),
      file: '/etc/mayfly/mayfly.toml',
      invalid: undefined,
    };
    return (await runChecks(on, [groupCheck])).map(line).join();
  }
  it.each([
    [
      'files sss',
      'include = ["@students"]\nsudo = ["@students"]\n',
      'problem: no group has the name "students", which "include", "sudo" name: people of the directory who could be in it cannot log in | getent group students',
    ],
    [
      'files systemd',
      'include = ["@domain admins"]\n',
      `problem: no group has the name "domain admins", which "include" names: its members log in to the host | groupadd 'domain admins'; or remove it from mayfly.toml`,
    ],
    [
      'files winbind',
      'exclude = ["@teachers"]\n',
      'warning: no group has the name "teachers", which "exclude" names | getent group teachers',
    ],
  ])('names a group that nothing knows, with group: %s, %s', async (services, config, expected) =>
    expect(await examine(`group: ${services}\n`, config, {})).toBe(expected),
  );
  const sss = 'group: files sss [NOTFOUND=return] systemd\n';
  const staff = 'exclude = ["root", "@staff"]\nsudo = ["@staff", "@admins"]\n';

  it('warns of a directory group with the name of a local one that a list names', async () => {
    expect(await examine(sss, staff, { staff: 'staff:*:5000:alice\n', admins: 'admins:*:5001:\n' })).toBe(
      'warning: "@staff" in "exclude", "sudo" is the group 50 of this machine; the group 5000 that "sss" has under this name does not count | getent -s sss group staff; name another group in mayfly.toml',
    );
  });
  it.each([
    ['the same group', sss, staff, { staff: 'staff:*:50:\n', admins: 'admins:*:5001:\n' }],
    ['no such group', sss, staff, { admins: 'admins:*:5001:\n' }],
    ['a group that no list names', sss, 'exclude = ["root"]\n', { staff: 'staff:*:5000:\n' }],
  ])('is content if the directory has %s', async (_, nsswitch, config, directory) =>
    expect(await examine(nsswitch, config, directory)).toBe('ok'),
  );
  it('asks no directory if all groups are local', async () =>
    expect(await examine('group: files systemd\n', 'exclude = ["root", "@staff"]\n', {})).toBe('ok'));
});

describe('the check of sessions', () => {
  const s = { id: 'u1-0', readable: true, stuck: undefined, over: undefined, age: 0 };
  it.each([
    ['in use', s, /^ok$/],
    ['its record is corrupt', { ...s, readable: false }, /^warning: .*\| mayfly recover$/],
    [
      'stuck',
      { ...s, stuck: 'volume: busy', over: 'its teardown had begun' },
      /^problem: u1-0 is stuck: volume: busy \| mayfly recover$/,
    ],
    ['just ending', { ...s, over: 'its teardown had begun' }, /^ok$/],
    [
      'over for long',
      { ...s, over: 'its teardown had begun', age: 90_000 },
      /^warning: u1-0 is over but was not ended/,
    ],
  ])('judges a session: %s', (_, k, words) => expect(line(judgeSessions([k]))).toMatch(words));

  const led = { uid: '7', session: 'u7-0', known: true, root: '/r', there: true };
  it.each([
    [led, /^ok$/],
    [
      { ...led, there: false },
      /^problem: .*the root directory "\/r", which does not exist \| mayfly end u7-0$/,
    ],
    [{ ...led, session: undefined, known: false, there: false }, /^problem: .*\| mayfly recover$/],
    [{ ...led, root: undefined, there: false }, /^ok$/],
    [{ ...led, known: false }, /^warning: .*u7-0, which does not exist \| mayfly recover$/],
  ])('judges the root of a user’s services: %j', (l, words) =>
    expect(line(judgeRedirects([l]))).toMatch(words),
  );

  it.each([
    [{ age: 10_000, deleted: false }, /^ok$/],
    [{ age: 10_000, deleted: true }, /^ok$/],
    [{ age: 600_000, deleted: false }, /^warning: u1-0 has ended, .* not been erased .* \| mayfly recover$/],
    [
      { age: 600_000, deleted: true },
      /^warning: u1-0 has ended, .* not been freed .*: it is held by .* \| mayfly recover$/,
    ],
  ])('judges a volume that waits to be erased: %j', (d, words) => {
    expect(line(judgeDiscarded([{ name: 'sessions/.old-u1-0', session: 'u1-0', ...d }]))).toMatch(words);
  });

  it.each([
    [0, /^ok$/],
    [
      1,
      /^warning: "u0" cannot log in: its home directory "\/etc" is a directory.* \| usermod --home \/home\/u0 u0$/,
    ],
    [7, /^warning: "u0" .*; warning: "u4" .*; warning: 2 more accounts/],
  ])('judges %i accounts whose home directories are refused', (n, words) => {
    const all = Array.from({ length: n }, (_, i) => ({ name: `u${i}`, home: '/etc', why: 'is a directory' }));
    expect(line(judgeHomes(all))).toMatch(words);
  });

  const fish = (name: string) => ({ name, shell: '/usr/bin/fish', instead: '/bin/bash' });
  const names = [...'abcdefg'];
  it.each([
    [undefined, /^not applicable$/],
    [[], /^ok$/],
    [
      [fish('a')],
      /^warning: the generation lacks "\/usr\/bin\/fish", the shell of "a": .*"\/bin\/bash" instead \| mayfly enter master --promote/,
    ],
    [names.map(fish), /the shell of "a", "b", "c", "d", "e", 2 more: /],
  ])('judges the shells of %j', (all, words) => expect(line(judgeShells(all))).toMatch(words));

  const sudo = { wanted: true, program: true, rules: true };
  it.each([
    [sudo, /^ok$/],
    [undefined, /^not applicable$/],
    [{ ...sudo, wanted: false, program: false, rules: false }, /^not applicable$/],
    [
      { ...sudo, program: false, rules: false },
      /^warning: the generation has no sudo: the option "sudo" has no effect \| mayfly enter master --promote -- .*install -y sudo/,
    ],
    [
      { ...sudo, rules: false },
      /^warning: in the generation, \/etc\/sudoers does not read .* \| mayfly enter master/,
    ],
  ])('judges sudo with %j', (s, words) => expect(line(judgeSudo(s))).toMatch(words));

  it.each([
    ['@includedir /etc/sudoers.d', 'ok'],
    ['#includedir /etc/sudoers.d', 'ok'],
    ['@includedir "/etc/sudoers.d/"', 'ok'],
    ['# @includedir /etc/sudoers.d', 'warning'],
    ['root ALL=(ALL:ALL) ALL', 'warning'],
  ])('reads in the generation that sudoers says "%s": %s', async (text, result) => {
    const w = preparedWorld();
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', 'sudo = ["alice"]\n');
    const tree = '/var/lib/mayfly/pool/generation/1';
    for (const path of ['/usr/bin', '/etc']) w.makeDirs(tree + path);
    w.put(`${tree}/usr/bin/sudo`, '');
    w.put(`${tree}/etc/sudoers`, `Defaults env_reset\n${text}\n`);
    const subject: Subject = { ...w.machine(), file: '/etc/mayfly/mayfly.toml', invalid: undefined };
    const [e] = await runChecks(subject, [sudoCheck]);
    expect(e?.findings.map(f => f.level).join() || 'ok').toBe(result);
  });

  it('lists accounts in scope whose home directories are refused', async () => {
    const w = new World();
    const passwd = [
      ...['root:x:0:0::/:/bin/sh', 'backup:x:34:34::/var/backups:/bin/sh', 'nobody:x:65534:65534::/:/bin/sh'],
      ...['alice:x:1001:1001::/etc:/bin/sh', 'bob:x:1002:1002::/home/bob:/bin/sh'],
      'carol:x:1003:1003::/srv/../usr:/bin/sh',
    ];
    w.programs.getent = () => ({ stdout: `${passwd.join('\n')}\n` });
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', 'exclude = ["root", "carol"]\n');
    const subject: Subject = { ...w.machine(), file: '/etc/mayfly/mayfly.toml', invalid: undefined };
    const [e] = await runChecks(subject, [homeCheck]);
    expect(e?.findings.map(f => f.what)).toEqual([
      '"alice" cannot log in: its home directory "/etc" is a directory of the system',
    ]);
  });

  it('lists users in scope who linger', async () => {
    const w = new World();
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', 'exclude = ["root", "bob"]\n');
    w.makeDirs('/var/lib/systemd/linger');
    const subject: Subject = { ...w.machine(), file: '/etc/mayfly/mayfly.toml', invalid: undefined };
    const linger = async () =>
      line((await runChecks(subject, [lingerCheck]))[0] ?? fine('nothing was checked'));
    expect(await linger()).toBe('ok');
    for (const name of ['alice', 'bob', 'gone']) w.put(`/var/lib/systemd/linger/${name}`, '');
    expect(await linger()).toMatch(
      /^warning: services of "alice" run on the host from boot on.* \| loginctl disable-linger alice$/,
    );
    w.put('/etc/passwd', `${w.host.read('/etc/passwd')}DOM\\eve:x:1077:1077::/home/eve:/bin/sh\n`);
    for (const name of ['alice', 'bob', 'gone']) w.host.unlink(`/var/lib/systemd/linger/${name}`);
    w.put('/var/lib/systemd/linger/DOM\\\\eve', '');
    expect(await linger()).toMatch(
      /^warning: services of "DOM\\eve" run .* \| loginctl disable-linger 'DOM\\eve'$/,
    );
  });

  it.each([
    [[], [], /^ok$/],
    [['u1-0'], [], /^problem: .*u1-0, but no such session \| mayfly recover$/],
    [[], ['u1-0'], /^problem: u1-0 has no entry.* \| mayfly end u1-0$/],
  ])('judges schroot entries: %j without a session, %j missing', (stray, missing, words) => {
    expect(line(judgeDoors({ stray, missing }))).toMatch(words);
  });

  it.each([
    [true, [], /^ok$/],
    [true, ['x'], /^problem: .*mounts it again at boot \| schroot -e -c session:x$/],
    [false, ['x'], /on a root directory of Mayfly \| schroot/],
  ])('judges schroot’s own sessions: recovered %s, sessions %j', (recovers, sessions, words) => {
    expect(line(judgeSchrootSessions({ recovers, sessions }))).toMatch(words);
  });

  it.each<[string, string | undefined, RegExp]>([
    ['', undefined, /^ok$/],
    [
      'W: line 4 [y] foo: x\nE: /etc/schroot/chroot.d/sbuild: Unknown chroot type',
      undefined,
      /^problem: nobody can enter a session: \/etc\/schroot\/chroot\.d\/sbuild: Unknown chroot type \| mv -n \/etc\/schroot\/chroot\.d\/sbuild \/root\/$/,
    ],
    [
      'E: /etc/schroot/chroot.d/a: File is not owned by user root',
      undefined,
      /\| chown root:root \/etc\S+a$/,
    ],
    [
      'E: /etc/schroot/chroot.d/a: File has write permissions for others',
      undefined,
      /\| chmod go-w \/etc\S+a$/,
    ],
    [
      'E: /etc/schroot/schroot.conf: line 7: Bad',
      undefined,
      /line 7: Bad \| sensible-editor \+7 \/etc\/schroot\/schroot\.conf$/,
    ],
    [
      'E: /d/mayfly-u1-0: line 1 [u1-0]: A chroot',
      '/d/copy',
      /; "\/d\/copy" has the same name \| mv -n \/d\/copy \/root\/$/,
    ],
    ['timeout: failed to run command: No such file', undefined, /^not applicable$/],
    ['cannot load a library', undefined, /exit code 1 \| schroot --list$/],
  ])('judges what schroot says of its files: %s', (stderr, other, words) => {
    const output = { code: stderr === '' ? 0 : stderr.includes('No such') ? 127 : 1, stdout: '', stderr };
    expect(line(judgeSchrootFiles({ output, other }))).toMatch(words);
  });

  it.each<[readonly string[], number, RegExp]>([
    [[], 0, /^ok$/],
    [[], 3, /^ok$/],
    [
      ['PAM error: x', 'PAM error: x'],
      2,
      /^problem: "u0" and 1 more cannot enter session s0: PAM error: x \| mayfly doctor no-entry/,
    ],
    [['PAM error: Authentication token is no longer valid; new one required'], 1, /\| passwd u0$/],
    [['a', 'b'], 2, /^problem: "u0" cannot .*: a \| .*; problem: "u1" cannot .*: b \| /],
    [['/etc/schroot/chroot.d/x: Bad'], 1, /^not applicable$/],
  ])('judges who is shut out: %j of %d', (why, tried, words) => {
    expect(
      line(
        judgeShutOut(
          why.map((w, i) => ({ id: `s${i}`, name: `u${i}`, why: w })),
          tried,
        ),
      ),
    ).toMatch(words);
  });
});

describe('the check of units', () => {
  const unit = (ActiveState: string, UnitFileState: string, more = {}) => ({
    ActiveState,
    UnitFileState,
    ...more,
  });
  const Before = 'systemd-user-sessions.service lightdm.service shutdown.target';
  const good: Units = {
    'mayfly.service': unit('active', 'enabled'),
    'mayfly-update.timer': unit('active', 'enabled'),
    'mayfly-update-missed.timer': unit('active', 'enabled'),
    'mayfly-recover.service': unit('active', 'enabled', { Before }),
    'lightdm.service': { Names: 'lightdm.service display-manager.service' },
  };
  const but = (name: string, u: Units[string]): Units => ({ ...good, [name]: u });

  it.each([
    [good, /^ok$/],
    [undefined, /^not applicable$/],
    [
      but('mayfly.service', unit('inactive', 'enabled')),
      /^warning: it is inactive.*\| systemctl enable --now mayfly\.service$/,
    ],
    [but('mayfly.service', unit('inactive', 'masked')), /^not applicable$/],
    [{}, /^warning: it is missing/],
  ])('judges the service with %j', (units, words) =>
    expect(line(judgeService({ foreign: false, units }))).toMatch(words),
  );

  const cron = '*/10 * * * * root [ -d /run/systemd/system ] || mayfly update';
  const night = { foreign: false, units: good, cron, ignored: false, crond: false, others: [] };
  const started = (more: Readonly<Record<string, string>>) => ({
    ...night,
    units: but('mayfly-update.service', unit('inactive', 'static', more)),
  });
  it.each([
    ['by the timer', night, /^ok$/],
    ['with another configuration file', { ...night, foreign: true }, /^not applicable$/],
    [
      'with the timer off',
      { ...night, units: but('mayfly-update.timer', unit('inactive', 'disabled')) },
      /^warning: the timer is disabled and inactive.*enable --now mayfly-update\.timer$/,
    ],
    [
      'without the timer for missed nights',
      { ...night, units: but('mayfly-update-missed.timer', unit('inactive', 'disabled')) },
      /^warning: mayfly-update-missed\.timer is inactive.*enable --now mayfly-update-missed\.timer$/,
    ],
    [
      'with the timer for missed nights masked',
      { ...night, units: but('mayfly-update-missed.timer', unit('inactive', 'masked')) },
      /^ok$/,
    ],
    [
      'with the timer masked',
      { ...night, units: but('mayfly-update.timer', unit('inactive', 'masked')) },
      /^not applicable$/,
    ],
    [
      'with its service masked',
      { ...night, units: but('mayfly-update.service', unit('inactive', 'masked')) },
      /^warning: mayfly-update\.service is masked: there are no automatic updates.* \| systemctl unmask mayfly-update\.service$/,
    ],
    [
      'with a timer that has no next time',
      { ...night, units: but('mayfly-update.timer', unit('active', 'enabled', { SubState: 'elapsed' })) },
      /^warning: the timer has no next time, so that each night is missed \| systemctl revert mayfly-update\.timer && /,
    ],
    ['with a timer that waits', started({ ConditionResult: 'no', ConditionTimestamp: '' }), /^ok$/],
    [
      'with a condition that was not met',
      started({ ConditionResult: 'no', ConditionTimestamp: 'Sat 2026-11-28 02:13:00 UTC' }),
      /^warning: mayfly-update\.service was not started last time, because a condition/,
    ],
    [
      'that systemd could not start',
      started({ ConditionResult: 'yes', Result: 'exit-code', ExecMainStatus: '203' }),
      /^warning: systemd could not start mayfly-update\.service, with exit status 203 \|/,
    ],
    [
      'that failed by itself, which is on record',
      started({ ConditionResult: 'yes', Result: 'exit-code', ExecMainStatus: '1' }),
      /^ok$/,
    ],
    [
      'with a job that cron ignores',
      { ...night, units: undefined, crond: true, ignored: true },
      /^warning: cron ignores "\/etc\/cron\.d\/mayfly", .* \| chown root:root/,
    ],
    [
      'by the timer and by cron',
      { ...night, cron: '* * * * * root mayfly update' },
      /^warning: .*in addition to the timer \| rm/,
    ],
    [
      'with another cron job',
      { ...night, others: ['/etc/crontab'] },
      /^warning: "\/etc\/crontab" runs updates in addition to/,
    ],
    ['by cron', { ...night, units: undefined, crond: true }, /^ok$/],
    [
      'with cron not running',
      { ...night, units: undefined },
      /^warning: cron is not running.* \| apt install cron$/,
    ],
    [
      'with cron but without a job',
      { ...night, units: undefined, crond: true, cron: undefined },
      /^warning: .*is missing.*force-confmiss mayfly # or/,
    ],
  ])('judges the nightly update %s', (_, s, words) => expect(line(judgeSchedule(s))).toMatch(words));

  const R = 'mayfly-recover.service';
  it.each([
    ['in time', good, true, /^ok$/],
    ['without systemd', undefined, true, /^not applicable$/],
    [
      'ordered by an alias',
      but(R, unit('active', 'enabled', { Before: 'display-manager.service systemd-user-sessions.service' })),
      true,
      /^ok$/,
    ],
    [
      'not enabled',
      but(R, unit('inactive', 'disabled')),
      true,
      /^problem: it is disabled.* \| systemctl enable mayfly-recover\.service$/,
    ],
    ['not enabled and not needed', but(R, unit('inactive', 'disabled')), false, /^warning/],
    [
      'too late',
      but(R, unit('active', 'enabled', { Before: 'systemd-user-sessions.service' })),
      true,
      /not ordered before display-manager\.service \| systemctl revert/,
    ],
    ['failed', but(R, unit('failed', 'enabled', { Before })), true, /^problem: it failed at boot/],
  ])('judges recovery that is %s', (_, units, wanted, words) => {
    expect(line(judgeRecovery({ foreign: false, units, wanted }))).toMatch(words);
  });

  it('assigns properties to units by their names', () => {
    expect(parseUnits('Id=a.service\nBefore=x y\n\nId=b.timer\nActiveState=active\n')).toEqual({
      'a.service': { Id: 'a.service', Before: 'x y' },
      'b.timer': { Id: 'b.timer', ActiveState: 'active' },
    });
  });
});

describe('doctor', () => {
  const p = problem('p', 'm');
  it.each([
    [[], 0],
    [[warning('w', 'm')], 7],
    [[p, warning('w', 'm')], 1],
    [[problem('s', 'm', 6)], 6],
    [[problem('c', 'm', 3), warning('w', 'm')], 3],
    [[problem('s', 'm', 6), p], 1],
    [[problem('s', 'm', 6), problem('c', 'm', 3)], 1],
  ])('with the findings %j exits with status %d', (findings, code) =>
    expect(exitCode([{ findings }])).toBe(code),
  );

  const w = new World();
  const on: Subject = { ...w.machine(), host: readOnly(w.host), file: '/c', invalid: undefined };
  const one = (gather: (s: Subject) => unknown) =>
    check({ group: 'g', title: 't', gather, evaluate: () => found([], '') });

  it('continues after a check that throws, and reports its error with the hint', async () => {
    const fails = one(() => {
      throw new MayflyError('no-pool', 'gone');
    });
    const all = await runChecks(on, [fails, one(() => 1)]);
    expect(all.map(line)).toEqual(['problem: gone | mayfly init', 'ok']);
  });

  it('reports an error once if it makes several checks fail', async () => {
    const fails = one(() => {
      throw new MayflyError('corrupt', '"/p" is corrupt', { hint: 'mayfly recover' });
    });
    const all = await runChecks(on, [fails, fails, fails]);
    expect(all.map(line)).toEqual([
      'problem: "/p" is corrupt | mayfly recover',
      'not applicable',
      'not applicable',
    ]);
    expect(all[1]?.words).toBe('cannot be checked, see "t"');
  });

  it('cannot change anything', async () => {
    const acts = [
      one(({ host }) => host.write('/etc/x', '', { mode: 0o600 })),
      one(({ host }) => host.mkdir('/etc/x', 0o700)),
      one(({ host }) => host.unlink('/etc/passwd')),
      one(({ host }) => host.kill(50, 'SIGKILL')),
      one(({ host }) => host.run({ file: 'true', args: [], effect: 'write' })),
    ];
    const before = w.picture();
    for (const e of await runChecks(on, acts)) expect(line(e)).toMatch(/tried to change something/);
    expect(w.picture()).toBe(before);
  });
});

describe('an error code', () => {
  it.each(['MAYFLY-FULL', 'mayfly-full', 'full', ' Full ', 'mayfly full', 'MAYFLY_FULL', 'MAYFLY FULL'])(
    'is found as %j',
    word => expect(explainCode(word).code).toBe('MAYFLY-FULL'),
  );
  it.each(['', 'MAYFLY-', 'fool', 'MAYFLY-MAYFLY-FULL'])(
    'is not found as %j, and the error names all codes',
    word => {
      expect(() => explainCode(word)).toThrow(/is not one of Mayfly's codes: MAYFLY-FULL, .*MAYFLY-INTERNAL/);
    },
  );
  it('is the same in messages and in the list', () => {
    for (const error of [new MayflyError('no-stable', 'x'), new Error('x'), 'x'])
      expect(explainCode(publicCodeOf(error)).means).toMatch(/^[a-z]/);
    expect(journalEntry('err', 'x', { code: publicCodeOf(1) })).toMatch(/\nMAYFLY_CODE=MAYFLY-INTERNAL\n$/);
  });
  it('can be read aloud and has a command to type', () => {
    for (const e of allCodes()) {
      expect(e.code).toMatch(/^MAYFLY(-[A-Z]+)+$/);
      expect(e.type.length, e.code).toBeGreaterThan(0);
      expect(`${e.means} ${e.look}`).not.toMatch(/\.$/);
    }
  });
  it('has the same text in the manual page', () => {
    const page = readFileSync('man/mayfly.8', 'utf8');
    const list = page.slice(page.indexOf('.SH CODES'), page.indexOf('.SH FILES'));
    const told = [...list.matchAll(/^\.B (MAYFLY\\-\S+)\n((?:[^.].*\n)+)/gm)].map(([, code, text]) => [
      code,
      text,
    ]);
    const plain = (text = ''): string => text.replaceAll('\\-', '-').replaceAll('\n', ' ').trim();
    expect(told.map(([code, text]) => [plain(code), plain(text)])).toEqual(
      allCodes().map(e => [e.code, e.means]),
    );
  });
  it('in the session wrapper is a known one, each of them', () => {
    const wrapper = readFileSync('hooks/session-wrapper', 'utf8');
    const said = wrapper.match(/MAYFLY-[A-Z-]+/g) ?? [];
    expect(new Set(said).size).toBe(5);
    for (const code of said) expect(explainCode(code).code).toBe(code);
  });
});

describe('the check of the host name', () => {
  const debian = 'passwd: files\nhosts: files dns # as installed\n';
  it.each([
    ['vm', '127.0.0.1 localhost\n127.0.1.1 vm\n', debian, 'ok'],
    ['vm', '127.0.1.1 vm.lab.example VM # mine\n', debian, 'ok'],
    ['vm', '', 'hosts: files myhostname mdns4_minimal [NOTFOUND=return] dns\n', 'ok'],
    ['vm', '', 'hosts: files resolve [!UNAVAIL=return] dns\n', 'ok'],
    ['vm', '127.0.0.1 localhost\n# 127.0.1.1 vm\n', debian, 'warning'],
    ['vm', '127.0.1.1 vm\n', 'hosts: dns files\n', 'warning'],
    ['vm', '', 'hosts: files mdns4_minimal [NOTFOUND=return] dns myhostname\n', 'warning'],
    ['vm', '127.0.1.1 vm2\n', '', 'warning'],
    ['vm', 'vm\n', debian, 'warning'],
    ['(none)', '', debian, 'not applicable'],
  ])('%s with %j and %j is %s', (name, hosts, nsswitch, expected) =>
    expect(line(judgeHostName({ name, hosts, nsswitch })).split(':')[0]).toBe(expected),
  );

  it('says which line to add', () =>
    expect(line(judgeHostName({ name: 'pc1.lab.example', hosts: '', nsswitch: '' }))).toBe(
      'warning: "/etc/hosts" lacks the name of this machine, "pc1.lab.example": while no name server answers, each entry into a session takes half a minute | add the line "127.0.1.1 pc1.lab.example pc1" to /etc/hosts',
    ));

  it('takes the name that the kernel has', async () => {
    const w = new World();
    w.makeDirs('/proc/sys/kernel');
    w.put('/proc/sys/kernel/hostname', 'pc1\n');
    w.put('/etc/hostname', 'pc2\n');
    w.put('/etc/hosts', '127.0.1.1 pc2\n');
    const on = {
      ...w.machine(),
      host: readOnly(w.host),
      file: '/etc/mayfly/mayfly.toml',
      invalid: undefined,
    };
    expect((await runChecks(on, [hostNameCheck])).map(line).join()).toMatch(/^warning: .*"pc1"/);
  });
});

describe('the display manager that the machine starts', () => {
  it('is looked up, with what sddm starts its Wayland desktops by', async () => {
    const w = new World();
    const put = (path: string, text: string): void => {
      w.makeDirs(path.replace(/\/[^/]*$/, ''));
      w.put(path, text);
    };
    const on = { ...w.machine(), file: '/etc/mayfly/mayfly.toml', invalid: undefined };
    const said = async (): Promise<string> =>
      (await runChecks(on, [currentManagerCheck])).map(line).join().replace(/:.*/, '');
    expect(await said()).toBe('not applicable');
    put('/etc/pam.d/common-session', `session requisite pam_exec.so /usr/lib/mayfly/hooks/pam/session\n`);
    put('/etc/X11/default-display-manager', '/usr/sbin/lightdm\n');
    expect(await said()).toBe('problem');
    w.makeDirs('/run/systemd/system');
    w.makeDirs('/etc/systemd/system');
    w.host.symlink('/lib/systemd/system/sddm.service', '/etc/systemd/system/display-manager.service');
    expect(await said()).toBe('ok');
    put('/usr/share/wayland-sessions/a.desktop', '');
    expect(await said()).toBe('warning');
    put('/etc/sddm.conf', `[Wayland]\nSessionCommand=/usr/lib/mayfly/hooks/session-wrapper --login\n`);
    expect(await said()).toBe('ok');
  });
});

describe('the check of what is not on record', () => {
  const one = (action: Unrecorded['action'], backend: Volume['backend'] = 'overlay'): Unrecorded => ({
    volume: { backend, pool: backend === 'overlay' ? '/p' : '/dev/g/may-fly', role: 'generation', name: '7' },
    action,
    why: 'because',
  });
  it.each<[string, readonly Unrecorded[] | undefined, RegExp]>([
    ['no pool', undefined, /^not applicable$/],
    ['nothing', [], /^ok$/],
    ['what recovery removes', [one('remove')], /^ok$/],
    ['a whole generation', [one('adopt')], /^warning: generation 7 .*: because \| mayfly recover$/],
    [
      'a copy',
      [one('keep')],
      /^warning: .*it is kept: because \| mv \/p\/generations\/7 \/p\/generations\/kept-7$/,
    ],
    [
      'a copy on LVM',
      [one('keep', 'lvm')],
      /\| lvchange --deltag mayfly:may-fly:generation:7 g\/may-fly-generation-7$/,
    ],
  ])('judges %s', (_, all, words) => expect(line(judgeUnrecorded(all))).toMatch(words));
});

it('a master that is empty is put aside', () =>
  expect(line(judgeMaster({ root: '/p/master', separate: [], isSystem: false }))).toMatch(
    /^problem: master .* is empty; .* \| mv \/p\/master \/p\/master.kept && mayfly update --force$/,
  ));
