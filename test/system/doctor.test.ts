/** What the doctor says of a machine that is well, and of one that was broken for real; and that its hints fix it. */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { findings, type Seen } from './findings.ts';
import { forgetUsers, Lab, MAYFLY, must, type Ran, sh, shAs, spawnMayfly, uidOf, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mfdoc-a';

const examine = (lab: Lab): Seen[] => findings(lab.mayfly('doctor', '--json'));

/** Types a hint. The person at the terminal and the power button are stood in for; `mayfly` is the lab's. */
function type(lab: Lab, hint: string): Ran {
  const bin = `${lab.dir}/bin`;
  if (!fs.existsSync(bin)) {
    fs.mkdirSync(bin);
    const put = (name: string, text: string): void =>
      fs.writeFileSync(`${bin}/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    put('mayfly', `verb=$1; shift; exec node ${MAYFLY} "$verb" --config ${lab.config} "$@"`);
    put('sensible-editor', 'exec sed -i "$(echo "$1" | tr -d +)d" "$2"'); // deletes the line it was sent to
    put('shutdown', 'exit 0');
  }
  return sh('sh', ['-c', hint], { env: { PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` } });
}

/** Exactly this is seen; the hint mends it, and all is well. */
function mends(lab: Lab, check: string, what: RegExp, code: number): void {
  const before = lab.picture();
  const r = lab.mayfly('doctor', '--json');
  expect(lab.picture()).toEqual(before);
  const seen = findings(r);
  expect(seen.map(s => s.check)).toEqual([check]);
  expect(seen[0]?.what).toMatch(what);
  expect(r.code).toBe(code);
  const typed = type(lab, seen[0]?.hint ?? 'false');
  expect(typed.code, `${seen[0]?.hint}: ${typed.err}`).toBe(0);
  expect(examine(lab)).toEqual([]);
}

describe('a lab', () => {
  let lab: Lab;

  beforeAll(() => {
    user(A);
    lab = new Lab();
    const from = makeMiniTree(`${lab.dir}/tree`);
    expect(lab.mayfly('init', '--from', from, '--quiet')).toMatchObject({ code: 0, err: '' });
    lab.configure('[update]\ncommand = ["true"]\n');
    expect(lab.mayfly('update', '--force', '--quiet')).toMatchObject({ code: 0, err: '' });
    lab.hook('start', A); // makes the cache
    lab.hook('stop', A);
  });
  afterEach(() => {
    lab.configure('[update]\ncommand = ["true"]\n');
  });
  afterAll(() => {
    lab.close();
    forgetUsers();
  });

  const at = (path: string): string => `${lab.dir}/${path}`;
  const id = (): string => `u${uidOf(A)}-0badc0de`;

  it('is well: exit code 0, a line for each check, nothing with --quiet, and nothing is changed', () => {
    const before = lab.picture();
    const r = lab.mayfly('doctor');
    expect(r).toMatchObject({ code: 0, err: '' });
    expect(r.out).toMatch(/^programs\n {2}ok +Node\.js +v\d/);
    expect(r.out).toMatch(/\n {2}ok +stable +generation 2\n/);
    expect(r.out).toMatch(/\n\nno problems found\n$/);
    expect(lab.mayfly('doctor', '--quiet')).toMatchObject({ code: 0, out: '', err: '' });
    expect(examine(lab)).toEqual([]);
    expect(lab.picture()).toEqual(before);
  });

  it('is well with somebody in it', () => {
    lab.hook('start', A);
    expect(examine(lab)).toEqual([]);
    lab.hook('stop', A);
  });

  it('is well while people come and go', async () => {
    let more = true;
    const comings = [':1', ':2'].map(async display => {
      while (more) {
        for (const action of ['start', 'stop'] as const)
          expect((await lab.hookAsync(action, A, display).done).code).toBe(0);
      }
    });
    for (let i = 0; i < 5; i++) expect(findings(await spawnMayfly(lab, 'doctor', '--json'))).toEqual([]);
    more = false;
    await Promise.all(comings);
  });

  it('a trial login proves it, and leaves nothing', () => {
    const before = lab.picture();
    const r = lab.mayfly('doctor', '--trial');
    expect(r.code, r.out).toBe(0);
    expect(r.out).toMatch(/\n {2}ok +stable +generation 2, in \d+\.\d s\n/);
    lab.configure('[check]\ncommand = ["/bin/nothing"]\n');
    const seen = findings(lab.mayfly('doctor', '--trial', '--json'));
    expect(seen).toMatchObject([{ check: 'stable', level: 'problem', hint: 'mayfly rollback 1' }]);
    expect(seen[0]?.what).toMatch(/^trial login: "\/bin\/nothing" as nobody failed/);
    expect(lab.picture()).toEqual(before);
  });

  /** Runs a command that alone sees this text in a file of the machine, which other tests use at the same time. */
  const seeing = (path: string, text: string, command: readonly string[]): Ran => {
    const place = at(`seen-${path.replaceAll('/', '-')}`);
    fs.cpSync(path.replace(/[^/]*$/, ''), place, { recursive: true, preserveTimestamps: true });
    fs.rmSync(`${place}/${path.replace(/.*\//, '')}`, { force: true });
    fs.writeFileSync(`${place}/${path.replace(/.*\//, '')}`, text, { mode: 0o644 });
    const script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"';
    const args = ['--mount', 'sh', '-c', script, 'sh', place, path.replace(/\/[^/]*$/, ''), ...command];
    const r = sh('unshare', args);
    fs.rmSync(place, { recursive: true });
    return r;
  };
  const doctor = (...options: string[]): string[] => [
    'node',
    MAYFLY,
    'doctor',
    '--config',
    lab.config,
    '--json',
    ...options,
  ];
  const wrapper = (): string[] => {
    const as = ['setpriv', '--reuid', A, '--regid', A, '--init-groups'];
    return [
      ...as,
      'env',
      '-u',
      'DISPLAY',
      `${process.cwd()}/hooks/session-wrapper`,
      '--session',
      lab.session(A)?.id ?? '',
      ...['sh', '-c', 'echo inside'],
    ];
  };
  const PAM = fs.readFileSync('/etc/pam.d/schroot', 'utf8');

  it.each<[string, string, string, string, RegExp, string]>([
    [
      'a file of somebody else that schroot cannot read',
      '/etc/schroot/chroot.d/sbuild',
      '[sbuild]\ntype=direktory\n',
      'configuration',
      /\/etc\/schroot\/chroot\.d\/sbuild: Unknown chroot type/,
      'mv -n /etc/schroot/chroot.d/sbuild /root/',
    ],
    [
      'a rule of PAM for accounts',
      '/etc/pam.d/schroot',
      `account requisite pam_deny.so\n${PAM}`,
      'entry',
      /PAM error: Authentication failure/,
      'mayfly doctor no-entry',
    ],
    [
      'a rule of PAM for sessions, with which schroot succeeds',
      '/etc/pam.d/schroot',
      `${PAM}\nsession requisite pam_deny.so\n`,
      'entry',
      /PAM error: Cannot make/,
      'mayfly doctor no-entry',
    ],
    [
      'a file of PAM that is wrong',
      '/etc/pam.d/schroot',
      'garbage\n',
      'entry',
      /PAM error: /,
      'mayfly doctor no-entry',
    ],
  ])('tells who cannot enter, and so does the login: %s', (_, path, text, check, what, hint) => {
    lab.hook('start', A);
    const seen = findings(seeing(path, text, doctor()));
    expect(seen).toMatchObject([{ check, level: 'problem', hint }]);
    expect(seen[0]?.what).toMatch(what);
    const r = seeing(path, text, wrapper());
    expect(r).toMatchObject({ code: 1, out: '' });
    expect(r.err).toMatch(what);
    expect(r.err).toMatch(/\(MAYFLY-NO-ENTRY\)$/m);
    expect(sh('env', wrapper()).out).toBe('inside\n');
    lab.hook('stop', A);
    const trial = findings(seeing(path, text, doctor('--trial', '--user', A)));
    expect(trial.find(f => f.check === 'stable')).toMatchObject({
      level: 'problem',
      hint: check === 'entry' ? hint : 'mayfly doctor',
    });
    expect(trial.find(f => f.check === 'stable')?.what).toMatch(
      new RegExp(`^${A} cannot enter the session: ${what.source}`),
    );
  });

  const write = (path: string, text: string, mode = 0o600): void => {
    fs.mkdirSync(path.replace(/\/[^/]*$/, ''), { recursive: true });
    fs.writeFileSync(path, text);
    fs.chmodSync(path, mode);
  };

  it.each<[string, string, RegExp, number, () => void]>([
    [
      'a wrong configuration',
      'valid',
      /mayfly\.toml:1: unknown option "nonsense" .*; the last valid one is used/,
      3,
      () => fs.writeFileSync(lab.config, `nonsense = 1\n${fs.readFileSync(lab.config, 'utf8')}`),
    ],
    [
      'a configuration that anybody can write',
      'files',
      /mayfly\.toml" is writable by users other/,
      1,
      () => fs.chmodSync(lab.config, 0o666),
    ],
    [
      'a configuration that people can not read',
      'files',
      /mayfly\.toml" is not readable by all users/,
      7,
      () => fs.chmodSync(lab.config, 0o600),
    ],
    [
      'a directory where a file of the configuration is to be',
      'valid',
      /conf\.d\/a\.toml" is a directory/,
      3,
      () => fs.mkdirSync(at('conf.d/a.toml'), { recursive: true }),
    ],
    [
      'a record of the pool that is not whole',
      'tools',
      /pool\.json" is corrupt/,
      1,
      () => fs.writeFileSync(at('state/pool.json'), '{"backe'),
    ],
    [
      'a configuration of somebody else',
      'files',
      /belongs to uid \d+, not to root/,
      1,
      () => fs.chownSync(lab.config, uidOf(A), 0),
    ],
    [
      'a cache that others could have written',
      'cache',
      /cannot be trusted/,
      7,
      () => {
        lab.mayfly('status');
        fs.chmodSync(`${lab.config}.cache`, 0o666);
      },
    ],
    [
      'a cache that says something else than the files',
      'cache',
      /differs from the configuration files/,
      1,
      () => {
        lab.mayfly('status');
        const path = `${lab.config}.cache`;
        fs.writeFileSync(path, fs.readFileSync(path, 'utf8').replace('"min_uid":1000', '"min_uid":2000'));
      },
    ],
    [
      'a script that anybody can write',
      'scripts',
      /refresh\.d\/x" is writable by users other/,
      1,
      () => write(at('refresh.d/x'), '#!/bin/sh\n', 0o777),
    ],
    [
      'a script that is passed over',
      'scripts',
      /refresh\.d\/y\.sh" is ignored/,
      7,
      () => write(at('refresh.d/y.sh'), '#!/bin/sh\n', 0o644),
    ],
    [
      'a state that everybody can look into',
      'directories',
      /state" is accessible/,
      1,
      () => fs.chmodSync(at('state'), 0o755),
    ],
    [
      'a pool that anybody can enter',
      'owner',
      /pool" is accessible/,
      1,
      () => fs.chmodSync(at('pool'), 0o755),
    ],
    [
      'a pointer to nothing',
      'stable',
      /the stable generation 9 is not usable/,
      1,
      () => {
        fs.unlinkSync(at('state/stable'));
        fs.symlinkSync('generations/9.json', at('state/stable'));
      },
    ],
    ['no pointer', 'stable', /no generation is stable/, 1, () => fs.unlinkSync(at('state/stable'))],
    [
      'a schroot entry of nobody',
      'entries',
      /but no such session/,
      1,
      () =>
        write(
          `/etc/schroot/chroot.d/mayfly-${id()}`,
          `[${id()}]\ntype=plain\ndirectory=${lab.dir}/run/roots/${id()}\nusers=${A}\n`,
          0o644,
        ),
    ],
    [
      'a session without its entry',
      'entries',
      /has no entry/,
      1,
      () => {
        lab.hook('start', A);
        fs.unlinkSync(`/etc/schroot/chroot.d/mayfly-${lab.session(A)?.id}`);
      },
    ],
    [
      'a mount point of nobody',
      'leftovers',
      /mount points without a session/,
      7,
      () => fs.mkdirSync(at(`run/roots/${id()}`)),
    ],
    [
      'a volume of nobody',
      'leftovers',
      /volumes without a session/,
      7,
      () => fs.mkdirSync(at(`pool/sessions/${id()}/upper`), { recursive: true }),
    ],
    [
      'a record that is not one',
      'records',
      /is corrupt/,
      7,
      () => write(at(`run/sessions/${id()}.json`), '{}\n'),
    ],
    [
      'services led to nowhere',
      'users',
      /have the root directory "\/nowhere"/,
      1,
      () => {
        fs.mkdirSync(at(`run/users/${uidOf(A)}`));
        fs.symlinkSync('/nowhere', at(`run/users/${uidOf(A)}/root`));
      },
    ],
    [
      'logins that are held off',
      'logins',
      /blocked: a restart/,
      7,
      () => write(at('run/hold'), `${Date.now() + 60_000} a restart\n`),
    ],
    [
      'an update that failed',
      'last update',
      /the last update failed in refresh: .*"false" failed/,
      7,
      () => {
        lab.configure('[update]\ncommand = ["false"]\n');
        lab.mayfly('update');
        lab.configure('[update]\ncommand = ["true"]\n');
      },
    ],
  ])('%s is seen, and the hint mends it', (_, check, what, code, sicken) => {
    sicken();
    mends(lab, check, what, code);
  });

  it('a generation that is gone: back to the one before, and forward again', () => {
    const number = /(\d+)\.json$/.exec(fs.readlinkSync(at('state/stable')))?.[1];
    fs.renameSync(at(`pool/generations/${number}`), at('gone'));
    const [seen] = examine(lab);
    expect(seen).toMatchObject({ check: 'stable', hint: 'mayfly rollback 1' });
    expect(type(lab, seen?.hint ?? '')).toMatchObject({ code: 0 });
    fs.rmSync(at('gone'), { recursive: true });
    mends(lab, 'demoted', new RegExp(`demoted: ${number}`), 7);
  });

  it('a generation that was changed after it was sealed: to another one, and then without it', () => {
    const number = /(\d+)\.json$/.exec(fs.readlinkSync(at('state/stable')))?.[1];
    fs.appendFileSync(at(`pool/generations/${number}/etc/nsswitch.conf`), '# changed\n');
    expect(examine(lab)).toMatchObject([
      {
        check: 'unchanged',
        level: 'problem',
        what: expect.stringMatching(
          new RegExp(`^generation ${number} was changed after it was sealed, at least "/etc/nsswitch.conf"`),
        ),
      },
    ]);
    for (let n = 0; n < 5 && examine(lab).length > 0; n++)
      expect(type(lab, examine(lab)[0]?.hint ?? 'false')).toMatchObject({ code: 0 });
    expect(examine(lab)).toEqual([]);
    expect(fs.existsSync(at(`pool/generations/${number}`))).toBe(false);
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
  });

  it('a record of an earlier generation that is not whole, which nobody else minds', () => {
    fs.writeFileSync(at('state/generations/1.json'), '');
    fs.writeFileSync(at('state/update.json'), '{"last'); // a mere note
    expect(lab.mayfly('status')).toMatchObject({ code: 0, err: '' });
    expect(lab.mayfly('generations').out).toMatch(/\n1 .*NOT USABLE: its record is corrupt\n/);
    mends(lab, 'other records', /generation 1 is unusable .*generations\/1\.json" is corrupt/, 7);
    expect(fs.existsSync(at('pool/generations/1'))).toBe(false);
  });

  it('the session wrapper, where no hook ran, has a code too', () => {
    type(lab, 'true'); // has the lab's mayfly made
    const r = shAs(A, [lab.wrapper(), '--run', at('run'), 'true'], {
      env: { PATH: `${at('bin')}:/usr/bin:/bin` },
    });
    expect(r).toMatchObject({ code: 1, out: '' });
    expect(r.err).toMatch(/there is no session for you on this machine \(MAYFLY-NO-SESSION\)\n$/);
    expect(lab.mayfly('doctor', 'MAYFLY-NO-SESSION').out).toMatch(/no hook ran at this login/);
  });

  it('a stuck session is seen with who holds it, until it is let go', () => {
    lab.hook('start', A);
    must('mkdir', [at('elsewhere')]);
    must('mount', ['--bind', lab.session(A)?.root ?? '', at('elsewhere')]);
    expect(lab.hook('stop', A).code).toBe(6);
    const r = lab.mayfly('doctor', '--json');
    expect(r.code).toBe(6);
    expect(findings(r)).toMatchObject([{ check: 'records', hint: 'mayfly recover' }]);
    must('umount', [at('elsewhere')]);
    fs.rmdirSync(at('elsewhere'));
    mends(lab, 'records', /is stuck: volume: .*still has its upper layer mounted/, 6);
  });

  it('a program that is missing is named with its package', () => {
    // In a mount namespace of its own the program is no program; nobody else is harmed.
    const script = `mount --bind /dev/null /usr/bin/schroot && exec node ${MAYFLY} doctor --json --config ${lab.config}`;
    const r = sh('unshare', ['-m', 'sh', '-c', script]);
    expect(findings(r)).toEqual([
      {
        check: 'tools',
        level: 'problem',
        what: 'the program "schroot" is missing',
        hint: 'apt install schroot',
      },
    ]);
    expect(r.code).toBe(1);
  });

  it('a refused person has a code, and anybody can look it up', () => {
    lab.configure('[admission]\nmax_used_percent = 1\n');
    expect(lab.hook('start', A).code).toBe(4);
    const reason = fs.readFileSync(at(`run/users/${uidOf(A)}/reason`), 'utf8');
    const code = /% full; the limit for new logins is 1 % \((MAYFLY-[A-Z-]+)\)\n$/.exec(reason)?.[1] ?? '';
    expect(examine(lab)).toMatchObject([{ check: 'free space', level: 'problem', hint: 'mayfly gc' }]);
    lab.configure('');
    expect(lab.hook('start', A).code).toBe(0);
    lab.hook('stop', A);
    fs.cpSync(MAYFLY.replace(/\/[^/]*$/, ''), at('dist'), { recursive: true });
    for (const word of [code, code.toLowerCase(), 'full']) {
      const asked = [
        '--reuid',
        A,
        '--regid',
        A,
        '--clear-groups',
        'node',
        at('dist/mayfly.cjs'),
        'doctor',
        word,
      ];
      const r = sh('setpriv', asked);
      expect(r).toMatchObject({ code: 0, err: '' });
      expect(r.out).toMatch(/^MAYFLY-FULL\nmeaning +the pool has too little space/);
      expect(r.out).toMatch(/\nrun +mayfly status\n +mayfly gc\n/);
    }
    fs.rmSync(at('dist'), { recursive: true });
    const unknown = lab.mayfly('doctor', 'MAYFLY-FOOL');
    expect(unknown.code).toBe(2);
    expect(unknown.err).toMatch(
      /^mayfly: "MAYFLY-FOOL" is not one of Mayfly's codes: MAYFLY-FULL, .*\nhint: mayfly doctor --codes\n$/,
    );
    expect(lab.mayfly('doctor', '--codes').out).toMatch(/^MAYFLY-FULL +the pool/);
  });
});

describe('room', () => {
  it('a pool in which generations take too much is mended by removing the old ones', () => {
    const lab = new Lab();
    fs.mkdirSync(`${lab.dir}/pool`);
    must('mount', ['-t', 'tmpfs', '-o', 'size=96M,mode=0700', 'mayfly-test', `${lab.dir}/pool`]);
    const from = makeMiniTree(`${lab.dir}/tree`);
    const options = 'min_free = "1M"\n[update]\ncommand = ["true"]\n';
    lab.configure(`[admission]\n${options}`); // the trial login of init needs as much as others
    expect(lab.mayfly('init', '--from', from, '--quiet')).toMatchObject({ code: 0, err: '' });
    for (let i = 0; i < 2; i++) expect(lab.mayfly('update', '--force', '--quiet')).toMatchObject({ code: 0 });
    expect(lab.mayfly('run', '--', 'true').code).toBe(0);
    expect(examine(lab)).toEqual([]);
    // Room for master and two generations, not for three.
    const { percent } = JSON.parse(lab.mayfly('status', '--json').out).usage as { percent: number };
    lab.configure(`[admission]\n${options}max_used_percent = ${Math.floor(percent * 0.9)}\n`);
    fs.rmSync(`${lab.dir}/state/probation.json`, { force: true }); // as after a session
    mends(lab, 'free space', /new logins are refused above 95 %/, 7);
    expect(lab.mayfly('destroy', '--yes').code).toBe(0);
    must('umount', [`${lab.dir}/pool`]);
    lab.close();
  });
});

describe('btrfs', () => {
  it('in an image: not mounted, without its generation, lost, and cut short', () => {
    const lab = new Lab();
    const from = makeMiniTree(`${lab.dir}/tree`);
    const r = lab.mayfly('init', '--backend', 'btrfs', '--from', from, '--quiet');
    expect(r).toMatchObject({ code: 0, err: '' });
    expect(examine(lab)).toEqual([]);
    // As by a tool for snapshots: nothing but the top of the image is the pool.
    const [, master = ''] =
      /^ID (\d+) .* path master$/m.exec(must('btrfs', ['subvolume', 'list', `${lab.dir}/pool`])) ?? [];
    must('btrfs', ['subvolume', 'set-default', master, `${lab.dir}/pool`]);
    must('umount', [`${lab.dir}/pool`]);
    const seen = examine(lab);
    expect(seen[0]).toMatchObject({ check: 'location', hint: 'mayfly recover' });
    expect(type(lab, seen[0]?.hint ?? '')).toMatchObject({ code: 0 });
    expect(examine(lab)).toEqual([]);
    expect(must('btrfs', ['subvolume', 'get-default', `${lab.dir}/pool`])).toMatch(/^ID 5 /);
    lab.configure('[update]\ncommand = ["true"]\n');
    must('btrfs', ['subvolume', 'delete', `${lab.dir}/pool/generations/1`]); // the only one
    mends(lab, 'stable', /generation 1 is not usable/, 1);
    must('umount', [`${lab.dir}/pool`]);
    fs.unlinkSync(`${lab.dir}/state/pool.img`);
    expect(examine(lab)[0]?.what).toMatch(/pool\.img" is missing/);
    const makeAnew = (): void => {
      const hint = examine(lab)[0]?.hint.replace(/$/, ` --from ${from} --quiet`) ?? '';
      expect(type(lab, hint)).toMatchObject({ code: 0 });
      expect(examine(lab)).toEqual([]);
    };
    makeAnew();
    fs.truncateSync(`${lab.dir}/state/pool.img`, 2 ** 30);
    expect(examine(lab)[0]?.what).toMatch(
      /pool\.img" was truncated: it has 1\.0 GiB, and the file system .* 2\.0 GiB; restore it/,
    );
    must('umount', [`${lab.dir}/pool`]);
    const recovered = lab.mayfly('recover');
    expect(recovered.code).toBe(6);
    expect(recovered.err + recovered.out).toMatch(
      /pool\.img" was truncated: .*; fix it with "mayfly doctor"/,
    );
    makeAnew();
    lab.close();
  });

  it('of one’s own: its root, the time between commits, master, and a file system that is not mounted', () => {
    const lab = new Lab();
    const pool = `${lab.dir}/pool`;
    const image = `${lab.dir}/btrfs`;
    fs.mkdirSync(pool);
    must('truncate', ['-s', '2G', image]);
    must('mkfs.btrfs', ['-q', image]);
    must('mount', ['-o', 'loop', image, pool]);
    const from = makeMiniTree(`${lab.dir}/tree`);
    const r = lab.mayfly('init', '--backend', 'btrfs', '--from', from, '--quiet');
    expect(r).toMatchObject({ code: 0, err: '' });
    expect(fs.statSync(pool).mode & 0o777).toBe(0o700);
    mends(lab, 'commit interval', /deleted sessions only every 30 s/, 7);
    lab.configure('[update]\ncommand = ["true"]\n');
    must('btrfs', ['subvolume', 'create', `${pool}/master/data`]);
    expect(examine(lab)).toEqual([]);
    fs.writeFileSync(`${pool}/master/data/file`, 'kept');
    mends(lab, 'master', /master\/data" is a subvolume of its own/, 1);
    expect(fs.readFileSync(`${pool}/master/data/file`, 'utf8')).toBe('kept');
    const sealed = `${pool}/generations/1`;
    const write = (): void => fs.writeFileSync(`${sealed}/etc/new`, '');
    expect(write).toThrow(/EROFS/);
    must('btrfs', ['property', 'set', '-ts', sealed, 'ro', 'false']);
    write();
    must('btrfs', ['property', 'set', '-ts', sealed, 'ro', 'true']);
    expect(examine(lab)).toMatchObject([{ check: 'unchanged', hint: 'mayfly update --force' }]);
    expect(type(lab, 'mayfly update --force')).toMatchObject({ code: 0 });
    mends(lab, 'unchanged', /^generation 1 was changed after it was sealed, at least "\/etc"/, 7);
    must('btrfs', ['subvolume', 'delete', `${pool}/master`]);
    mends(lab, 'location', /the volume of master is missing/, 1);
    expect(fs.existsSync(`${pool}/master/etc`)).toBe(true);
    must('umount', [pool]);
    expect(examine(lab)[0]).toMatchObject({
      check: 'location',
      what: expect.stringMatching(/its file system may not be mounted/),
      hint: `mount ${pool} && mayfly recover`,
    });
    must('mount', ['-o', 'loop,commit=5', image, pool]);
    expect(examine(lab)).toEqual([]);
    expect(lab.mayfly('destroy', '--yes').code).toBe(0);
    must('umount', [pool]);
    lab.close();
  });
});
