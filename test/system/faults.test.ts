/** Bad input and broken surroundings: a clear error, nothing lost, nothing touched outside. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { forgetUsers, Lab, must, sh, shAs, uidOf, until, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-a';
const B = 'mayfly-b';
let lab: Lab;
let before: unknown;

beforeAll(() => {
  user(A);
  user(B);
  lab = Lab.make({ backend: 'overlay' });
  lab.hook('start', A);
  lab.hook('stop', A);
  before = lab.picture();
});
beforeEach(() => {
  expect(lab.picture()).toEqual(before);
});
afterAll(() => {
  lab.close();
  forgetUsers();
});

const nothingLeft = () => expect(lab.picture()).toEqual(before);
const record = (id: string) => `${lab.dir}/run/sessions/${id}.json`;

describe('names', () => {
  it.each([
    ['../../etc/passwd', /invalid user name/],
    ['a/b', /invalid user name/],
    ['a b ', /invalid user name/],
    ['-rf', /invalid user name/],
    ['x'.repeat(300), /has 300 characters/],
    ['a\nb', /invalid user name/],
    ['$(reboot)', /there is no user/],
    ['no-such-user', /there is no user "no-such-user"/],
  ])('%j is refused', (name, message) => {
    const r = lab.hook('start', A, ':0', { USER: name, DISPLAY: ':0' });
    expect(r.code).not.toBe(0);
    expect(r.err).toMatch(message);
    expect(lab.hook('stop', A, ':0', { USER: name, DISPLAY: ':0' }).code).toBe(0);
    nothingLeft();
  });
  it('a start without a name is refused', () => {
    expect(lab.hook('start', A, ':0', { DISPLAY: ':0' })).toMatchObject({ code: 4 });
  });
});

describe('a hostile environment', () => {
  it('changes nothing: PATH, loader and Node variables, a strange display', () => {
    const evil = `${lab.dir}/evil`;
    fs.mkdirSync(evil);
    for (const tool of ['mount', 'umount', 'flock', 'rm', 'cp', 'schroot', 'sh']) {
      fs.writeFileSync(`${evil}/${tool}`, `#!/bin/sh\ntouch ${lab.dir}/owned\n`, { mode: 0o755 });
    }
    const env = {
      USER: A,
      PATH: `${evil}:/usr/bin:/bin`,
      DISPLAY: ':0; touch /x',
      HOME: '/../..',
      SHELL: `${evil}/sh`,
      TMPDIR: evil,
      IFS: '/',
      MAYFLY_CONFIG: '/x',
    };
    expect(lab.hook('start', A, ':0', env)).toMatchObject({ code: 0 });
    expect(lab.inside(A, 'id', '-un').out).toBe(`${A}\n`);
    expect(lab.hook('stop', A, ':0', env)).toMatchObject({ code: 0 });
    expect(fs.existsSync(`${lab.dir}/owned`)).toBe(false);
    fs.rmSync(evil, { recursive: true });
    nothingLeft();
  });
});

describe('records', () => {
  it.each([
    ['an empty one', ''],
    ['a cut one', '{"id":"u4242-0a0b0c0d","user":{"na'],
    ['one that is not JSON', 'hello'],
    [
      'one that names another root',
      JSON.stringify({ id: 'u4242-0a0b0c0d', root: '/', volume: { name: 'x' } }),
    ],
  ])('%s is cleaned up by recover and harms nobody', (_what, text) => {
    lab.hook('start', B, ':7');
    fs.writeFileSync(record('u4242-0a0b0c0d'), text);
    const r = lab.mayfly('recover');
    expect(r).toMatchObject({ code: 0 });
    expect(r.out).toMatch(/u4242-0a0b0c0d/);
    expect(lab.inside(B, 'true').code).toBe(0);
    lab.hook('stop', B, ':7');
    nothingLeft();
  });

  it('a file that is not one of ours is left alone', () => {
    fs.writeFileSync(`${lab.dir}/run/sessions/notes.txt`, 'mine');
    lab.mayfly('recover');
    expect(fs.readFileSync(`${lab.dir}/run/sessions/notes.txt`, 'utf8')).toBe('mine');
    fs.unlinkSync(`${lab.dir}/run/sessions/notes.txt`);
  });

  it('a symlink instead of a record is not followed', () => {
    fs.symlinkSync('/etc/passwd', record('u4242-0a0b0c0e'));
    lab.mayfly('recover');
    expect(fs.readFileSync('/etc/passwd', 'utf8')).toMatch(/^root:/);
    nothingLeft();
  });
});

describe('the accident of 2009: a root that is not mounted', () => {
  it('never leads to a kill or delete outside', async () => {
    lab.hook('start', A);
    const s = lab.session(A);
    const bystander = Number(sh('sh', ['-c', 'sleep 1000 >/dev/null 2>&1 & echo $!']).out);
    must('umount', ['-l', s?.root ?? '/nonexistent']);
    // The record now says, by mistake or malice, that the host's own device is the session's.
    fs.writeFileSync(record(s?.id ?? ''), JSON.stringify({ ...s, devices: [fs.statSync('/').dev] }));
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(fs.existsSync(`/proc/${bystander}/cwd`)).toBe(true);
    process.kill(bystander, 'SIGKILL');
    nothingLeft();
  });

  it('nor does a stale device number that another session has been given since', async () => {
    lab.hook('start', A);
    const s = lab.session(A);
    must('umount', ['-l', s?.root ?? '/nonexistent']);
    lab.hook('start', B, ':7');
    lab.linger(B, false, 'exec sleep 1000');
    await until(() => lab.processesInside().length >= 1);
    const neighbours = lab.processesInside();
    fs.writeFileSync(record(s?.id ?? ''), JSON.stringify({ ...s, devices: lab.session(B)?.devices }));
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.processesInside()).toEqual(neighbours);
    lab.hook('stop', B, ':7');
    nothingLeft();
  });

  it('processes in a root that somebody unmounted behind our back are still found and ended', async () => {
    lab.hook('start', A);
    lab.linger(A, false, 'sleep 1000');
    await until(() => lab.processesInside().length >= 1);
    const [pid] = lab.processesInside();
    must('umount', ['-l', lab.session(A)?.root ?? '/nonexistent']);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(fs.existsSync(`/proc/${pid}/exe`) && stateOf(pid ?? 0)).not.toBe('S');
    nothingLeft();
  });

  it('an already unmounted root is just taken away', () => {
    lab.hook('start', A);
    must('umount', ['-l', lab.session(A)?.root ?? '']);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    nothingLeft();
  });

  it('a symlink where the mount point was is refused, and nothing behind it is touched', () => {
    lab.hook('start', A);
    const s = lab.session(A);
    const root = s?.root ?? '';
    must('umount', ['-l', root]);
    fs.rmdirSync(root);
    const victim = `${lab.dir}/victim`;
    fs.mkdirSync(victim);
    fs.symlinkSync(victim, root);
    const r = lab.hook('stop', A);
    expect(r.code).not.toBe(0);
    expect(r.err).toMatch(/is not a directory, so it is not a mount point/);
    expect(fs.existsSync(victim)).toBe(true);
    fs.unlinkSync(root);
    expect(lab.mayfly('recover').code).toBe(0);
    fs.rmdirSync(victim);
    nothingLeft();
  });

  it('a mount point with something in it is kept and named', () => {
    lab.hook('start', A);
    const root = lab.session(A)?.root ?? '';
    must('umount', ['-l', root]);
    fs.writeFileSync(`${root}/precious`, 'x');
    const r = lab.hook('stop', A);
    expect(r.code).not.toBe(0);
    expect(r.err).toMatch(/cannot remove the mount point .*: it is not empty/);
    expect(fs.readFileSync(`${root}/precious`, 'utf8')).toBe('x');
    fs.unlinkSync(`${root}/precious`);
    expect(lab.mayfly('recover').code).toBe(0);
    nothingLeft();
  });
});

describe('surroundings', () => {
  it('a lost pointer to stable: refused, with the command to type', () => {
    fs.renameSync(`${lab.dir}/state/stable`, `${lab.dir}/state/stable.away`);
    const r = lab.hook('start', A);
    expect(r.code).toBe(4);
    expect(r.err).toBe('mayfly: the pointer to the stable generation is missing\nhint: mayfly rollback\n');
    fs.renameSync(`${lab.dir}/state/stable.away`, `${lab.dir}/state/stable`);
    forgetReason();
  });

  it('a generation that vanished, or was put back by hand, is refused', () => {
    const tree = `${lab.dir}/pool/generations/1`;
    fs.renameSync(tree, `${tree}0`);
    expect(lab.hook('start', A).err).toMatch(/generation 1 cannot be used: its volume is missing/);
    fs.mkdirSync(tree);
    expect(lab.hook('start', A).err).toMatch(/generation 1 cannot be used: its volume was replaced/);
    fs.rmdirSync(tree);
    fs.renameSync(`${tree}0`, tree);
    forgetReason();
  });

  it('the person can read the reason, and their wrapper refuses', () => {
    fs.renameSync(`${lab.dir}/state/stable`, `${lab.dir}/state/stable.away`);
    lab.hook('start', A);
    fs.renameSync(`${lab.dir}/state/stable.away`, `${lab.dir}/state/stable`);
    const bin = `${lab.dir}/bin`;
    fs.mkdirSync(bin);
    fs.writeFileSync(`${bin}/mayfly`, '#!/bin/sh\necho "you get a session; on failure: refuse"\n', {
      mode: 0o755,
    });
    const r = shAs(A, [lab.wrapper(), '--run', `${lab.dir}/run`, 'echo', 'on the host'], {
      env: { PATH: `${bin}:/usr/bin:/bin` },
    });
    expect(r).toMatchObject({ code: 1, out: '' });
    expect(r.err).toMatch(/the pointer to the stable generation is missing/);
    fs.rmSync(bin, { recursive: true });
    expect(lab.hook('start', A).code).toBe(0); // a good login takes the reason away
    lab.hook('stop', A);
    nothingLeft();
  });

  it('schroot is not there: refused, nothing is left', () => {
    lab.configure('');
    fs.writeFileSync(
      lab.config,
      fs
        .readFileSync(lab.config, 'utf8')
        .replace('[directories]', `[directories]\nschroot = "${lab.dir}/no-schroot"`),
    );
    const r = lab.hook('start', A);
    expect(r.code).not.toBe(0);
    expect(r.err).toMatch(/schroot is not installed: .*\nhint: apt install schroot/);
    lab.configure('');
    forgetReason();
  });

  it('a pool above its limit: refused in plain words, running sessions go on', () => {
    lab.hook('start', B, ':7');
    lab.configure('[admission]\nmax_used_percent = 1\n');
    const r = lab.hook('start', A);
    expect(r).toMatchObject({ code: 4 });
    expect(r.err).toMatch(/% full; the limit for new logins is 1 %\nhint: end sessions/);
    lab.configure('[admission]\nmin_free = "999T"\n');
    expect(lab.hook('start', A).err).toMatch(/a new login needs/);
    lab.configure('');
    expect(lab.inside(B, 'true').code).toBe(0);
    lab.hook('stop', B, ':7');
    forgetReason();
  });

  it('a mount that fails: refused, nothing is left', () => {
    const file = `${lab.dir}/pool/generations/1/srv`;
    lab.configure('[mounts]\nbind = ["/srv"]\n');
    fs.rmdirSync(file);
    fs.symlinkSync('/etc', file);
    const r = lab.hook('start', A);
    expect(r.code).not.toBe(0);
    expect(r.err).toMatch(/"\/srv" in the generation is a symlink; cannot mount "\/srv" on it/);
    fs.unlinkSync(file);
    fs.mkdirSync(file);
    lab.configure('');
    forgetReason();
  });

  it('symlinks of the generation are replaced by the files of the machine, and lead nobody out', () => {
    const etc = `${lab.dir}/pool/generations/1/etc`;
    const victim = `${lab.dir}/victim`;
    fs.writeFileSync(victim, 'mine');
    const links = {
      hosts: victim,
      hostname: '/nowhere/hostname',
      'resolv.conf': '../../../../../etc/passwd',
    };
    for (const [name, target] of Object.entries(links)) {
      if (fs.existsSync(`${etc}/${name}`)) fs.renameSync(`${etc}/${name}`, `${etc}/${name}.away`);
      fs.symlinkSync(target, `${etc}/${name}`);
    }
    const root = () => lab.session(A)?.root ?? '/nonexistent';
    const before = fs.readFileSync('/etc/passwd', 'utf8');
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    for (const name of Object.keys(links)) {
      expect(fs.lstatSync(`${root()}/etc/${name}`).isFile()).toBe(true);
      expect(fs.readFileSync(`${root()}/etc/${name}`, 'utf8')).toBe(fs.readFileSync(`/etc/${name}`, 'utf8'));
    }
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(fs.readFileSync(victim, 'utf8')).toBe('mine');
    expect(fs.readFileSync('/etc/passwd', 'utf8')).toBe(before);
    expect(fs.existsSync('/nowhere')).toBe(false);
    fs.unlinkSync(victim);
    for (const name of Object.keys(links)) {
      fs.unlinkSync(`${etc}/${name}`);
      if (fs.existsSync(`${etc}/${name}.away`)) fs.renameSync(`${etc}/${name}.away`, `${etc}/${name}`);
    }
    nothingLeft();
  });

  it('what schroot.service does at its start and stop touches no session, also while somebody is inside', async () => {
    const sessions = (verb: string) => sh('schroot', [verb, '--all-sessions']);
    lab.hook('start', A);
    lab.linger(A, false, 'exec sleep 1000');
    await until(() => lab.processesInside().length >= 1);
    const picture = lab.picture();
    // schroot calls an entry of the type "plain" a session, but has nothing of it to recover or to end.
    expect(sessions('--list').out).toBe(`session:${lab.session(A)?.id}\n`); // and nobody else's, which would end
    expect(fs.readdirSync('/var/lib/schroot/session')).toEqual([]);
    for (const verb of ['--recover-session', '--end-session'])
      expect(sessions(verb)).toMatchObject({ code: 0, err: '' });
    expect(lab.picture()).toEqual(picture);
    expect(lab.inside(A, 'true').code).toBe(0);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    nothingLeft();
  });

  it('a generation that is not a whole system: refused, nothing is left', () => {
    const file = `${lab.dir}/pool/generations/1/etc/passwd`;
    fs.renameSync(file, `${file}.away`);
    expect(lab.hook('start', A).err).toMatch(/has no regular file .*it is not a complete system/);
    fs.renameSync(`${file}.away`, file);
    forgetReason();
  });

  it('a configuration that is wrong: all goes on by the last valid one, which is said, and without one logins are refused', () => {
    lab.hook('start', A);
    const good = fs.readFileSync(lab.config, 'utf8');
    const monitor = () => JSON.parse(lab.mayfly('status', '--check', '--json').out);
    expect(monitor()).toMatchObject({ level: 'OK', status: 0 });
    fs.writeFileSync(lab.config, `nonsense = 1\n${good}`);
    const r = lab.hook('start', B, ':7');
    expect(r.code).toBe(0);
    expect(r.err).toMatch(
      /uses the last valid configuration: .*mayfly\.toml:1: unknown option "nonsense" \(valid /,
    );
    expect(lab.session(B)?.state).toBe('live');
    const said = /WARNING - the configuration is invalid, and the last valid one is used: .*toml:1: unknown/;
    expect(monitor()).toMatchObject({ level: 'WARNING', status: 1, line: expect.stringMatching(said) });
    const status = lab.mayfly('status');
    expect(status).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^config +invalid; the last valid one is used/),
    });
    expect(status.err).toContain('using the last valid configuration: ');
    expect(lab.mayfly('update').code).toBe(3);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
    expect(lab.mayfly('end', B).code).toBe(0);
    fs.rmSync(`${lab.config}.cache`);
    const refused = lab.hook('start', B, ':7');
    expect(refused.code).toBe(3);
    expect(refused.err).toMatch(/mayfly\.toml:1: unknown option "nonsense"\nhint: valid options/);
    const refuses = /^CRITICAL - the configuration is invalid, and logins are refused: .*unknown option/;
    expect(monitor()).toMatchObject({ level: 'CRITICAL', status: 2, line: expect.stringMatching(refuses) });
    fs.writeFileSync(lab.config, good);
    expect(monitor()).toMatchObject({ level: 'OK', status: 0 });
    nothingLeft();
  });

  it('refused logins are counted for monitoring until one succeeds', () => {
    const line = (): string => lab.mayfly('status', '--check').out;
    const good = fs.readFileSync(lab.config, 'utf8');
    lab.configure('[admission]\nmin_free = "1000T"\n');
    lab.hook('start', A);
    expect(line()).toMatch(/^WARNING - .*a login was refused since the last one that succeeded: MAYFLY-FULL/);
    lab.hook('start', B, ':7');
    expect(line()).toMatch(/^CRITICAL - .*2 logins of 2 users were refused since .*: MAYFLY-FULL/);
    lab.hook('start', 'mayfly-nobody-of-this-name');
    expect(line()).toContain('2 logins of 2 users');
    fs.writeFileSync(lab.config, good);
    expect(line()).toMatch(/^CRITICAL - /);
    fs.rmSync(`${lab.dir}/run/users/${uidOf(B)}`, { recursive: true });
    forgetReason(); // by a login that succeeds
    expect(line()).toMatch(/^OK - /);
  });

  it('a configuration that changed between start and stop: the record decides', () => {
    lab.hook('start', A);
    lab.configure(
      '[pool]\nbackend = "btrfs"\npath = "/nonexistent/elsewhere"\n[overlay]\nupper = "tmpfs"\n[mounts]\nrbind = []\n',
    );
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    lab.configure('');
    nothingLeft();
  });

  it('a second mount of the volume elsewhere keeps the record and says so, until it is gone', () => {
    lab.hook('start', A);
    const s = lab.session(A);
    const elsewhere = `${lab.dir}/elsewhere`;
    fs.mkdirSync(elsewhere);
    must('mount', ['--bind', s?.root ?? '', elsewhere]);
    const r = lab.hook('stop', A);
    expect(r.code).toBe(6);
    expect(r.err).toMatch(/in use: the kernel still has its upper layer mounted/);
    expect(lab.mayfly('sessions').out).toMatch(/stuck: volume:/);
    expect(lab.mayfly('status', '--json').out).toMatch(/"healthy": false/);
    expect(lab.mayfly('recover').code).toBe(6);
    // A stuck session does not keep its person out.
    expect(lab.hook('start', A).code).toBe(0);
    expect(lab.inside(A, 'true').code).toBe(0);
    expect(lab.hook('stop', A).code).toBe(0);
    must('umount', [elsewhere]);
    fs.rmdirSync(elsewhere);
    expect(lab.mayfly('recover').code).toBe(0);
    nothingLeft();
  });
});

describe('what a person can do to teardown', () => {
  it('hands a descriptor to a service of the host: the service lives, and the session ends when it lets go', async () => {
    lab.hook('start', A);
    const s = lab.session(A);
    const service = Number(
      sh('sh', ['-c', 'exec 3<"$1"; sleep 1000 >/dev/null 2>&1 & echo $!', 'sh', `${s?.root}/etc/passwd`])
        .out,
    );
    // The tree is detached by then, so no mount table shows it; the kernel is asked.
    const stopped = lab.hook('stop', A);
    expect(stopped.code).toBe(6);
    expect(stopped.err).toMatch(/is in use: the kernel still has its upper layer mounted/);
    expect(fs.readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(s?.root);
    expect(fs.existsSync(`/proc/${service}/exe`)).toBe(true);
    process.kill(service, 'SIGKILL');
    await until(() => lab.mayfly('recover').code === 0);
    nothingLeft();
  });

  it('uses a loop device on a file of theirs', () => {
    lab.hook('start', A);
    const root = lab.session(A)?.root ?? '';
    lab.rootInside(A, 'sh', '-c', 'dd if=/dev/zero of=/root/disk bs=1M count=4 2>/dev/null');
    must('losetup', ['-f', `${root}/root/disk`]);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    nothingLeft();
  });

  it('fills the disk that the state is on: logout still works', () => {
    const small = new Lab();
    const image = `${small.dir}/image`;
    must('truncate', ['-s', '420M', image]);
    must('mkfs.ext4', ['-q', '-m', '0', image]);
    fs.mkdirSync(`${small.dir}/pool`);
    fs.mkdirSync(`${small.dir}/state`);
    must('mount', ['-o', 'loop', image, `${small.dir}/pool`]);
    fs.mkdirSync(`${small.dir}/pool/state`);
    must('mount', ['--bind', `${small.dir}/pool/state`, `${small.dir}/state`]);
    fs.mkdirSync(`${small.dir}/pool/p`);
    const config = `[pool]\npath = "${small.dir}/pool/p"\n[admission]\nmax_used_percent = 100\nmin_free = "1M"\n`;
    const tree = `${small.dir}/tree`;
    makeMiniTree(tree);
    fs.mkdirSync(`${tree}/root`);
    small.configure(config);
    expect(small.mayfly('init', '--from', tree)).toMatchObject({ code: 0 });
    expect(small.hook('start', A)).toMatchObject({ code: 0 });
    const root = small.session(A)?.root ?? '';
    sh('dd', ['if=/dev/zero', `of=${root}/root/big`, 'bs=1M']);
    for (let i = 0; ; i++)
      if (
        sh(
          'touch',
          Array.from({ length: 4000 }, (_, n) => `${root}/var/${i}-${n}`),
        ).code !== 0
      )
        break;
    expect(() => fs.writeFileSync(`${small.dir}/state/x`, 'x'.repeat(5000))).toThrow(/ENOSPC/);
    expect(small.hook('stop', A)).toMatchObject({ code: 0 });
    expect(small.session(A)).toBeUndefined();
    expect(small.hook('start', A)).toMatchObject({ code: 0 });
    small.hook('stop', A);
    expect(small.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
    must('umount', [`${small.dir}/state`, `${small.dir}/pool`]);
    small.close();
  });
});

describe('the command line', () => {
  it.each([
    [['frobnicate'], 2, /unknown|not known/i],
    [['run'], 2, /no command given/],
    [['end', 'nobody'], 2, /there is no session "nobody"/],
    [['enter', '99'], 4, /there is no generation 99/],
    [['init', '--from', 'nowhere'], 2, /takes "debootstrap", "host" or an absolute path/],
    [['init', '--suite', '../x'], 2, /invalid release/],
    [['init', '--packages=-rf'], 2, /invalid package name/],
    [['init'], 4, /is already in use: generation 1 is stable\nhint: mayfly status\n/],
    [['destroy'], 2, /confirm with --yes/],
    [['hook', 'sddm', 'start'], 2, /invalid command/],
  ])('%j exits with %i', (args, code, message) => {
    const r = lab.mayfly(args[0] ?? '', ...args.slice(1));
    expect(r.err).toMatch(message);
    expect(r.code).toBe(code);
  });

  it('--json makes errors JSON too', () => {
    const r = lab.mayfly('end', 'nobody', '--json');
    expect(JSON.parse(r.out)).toMatchObject({ error: 'unknown-session', hint: 'mayfly sessions' });
  });

  it('--dry-run of a login shows the plan and does nothing', () => {
    const [file, args] = lab.hookArgs('lightdm', 'start');
    const r = sh(file, [...args, '--dry-run'], { env: { USER: A, DISPLAY: ':0' } });
    expect(r).toMatchObject({ code: 0, err: '' });
    expect(r.out).toMatch(/^mount overlay on .*\/run\/roots\/u\d+-[0-9a-f]{8} \(lowerdir=.*\)$/m);
    expect(r.out).toMatch(/write \/etc\/schroot\/chroot\.d\/mayfly-/);
    nothingLeft();
  });

  it('run: exit code, output, as whom, and nothing stays', () => {
    const r = lab.mayfly('run', '--user', A, '--', 'sh', '-c', 'id -un; (setsid sleep 1000 &) ; exit 7');
    expect(r).toMatchObject({ code: 7, out: `${A}\n` });
    expect(lab.mayfly('run', '--', 'sh', '-c', 'rm -rf --one-file-system /usr; echo done').out).toBe(
      'done\n',
    );
    nothingLeft();
  });

  it('run beside a login leaves the login alone', () => {
    lab.hook('start', A);
    const id = lab.session(A)?.id;
    lab.mayfly('run', '--user', A, '--', 'true');
    expect(lab.session(A)?.id).toBe(id);
    expect(lab.inside(A, 'true').code).toBe(0);
    lab.hook('stop', A);
    nothingLeft();
  });

  it('status, sessions, generations and config say what there is', () => {
    lab.hook('start', A);
    expect(lab.mayfly('status').out).toMatch(/stable +generation 1/);
    expect(JSON.parse(lab.mayfly('sessions', '--json').out)).toMatchObject([
      { user: A, generation: 1, state: 'live' },
    ]);
    expect(JSON.parse(lab.mayfly('generations', '--json').out)).toMatchObject([
      { number: 1, stable: true, sessions: 1, usable: true },
    ]);
    expect(lab.mayfly('config').out).toMatch(/^backend = "overlay"/m);
    expect(lab.mayfly('end', A)).toMatchObject({ code: 0 });
    nothingLeft();
  });
});

function stateOf(pid: number): string {
  const text = fs.existsSync(`/proc/${pid}/stat`) ? fs.readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
  return text.slice(text.lastIndexOf(')') + 2, text.lastIndexOf(')') + 3);
}

function forgetReason(name = A): void {
  expect(lab.hook('start', name).code).toBe(0);
  lab.hook('stop', name);
  nothingLeft();
}
