/** The main job on real trees, through the hooks and schroot: a login gets a fresh machine, a logout leaves nothing. */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  BACKENDS,
  forgetUsers,
  Lab,
  must,
  sh,
  shAs,
  sleep,
  treeOfLogins,
  uidOf,
  until,
  user,
} from './lab.ts';
import { sameNameSameRights } from './numbers.ts';

const A = 'mayfly-a';
const B = 'mayfly-b';

describe.each(BACKENDS)('a login on %s', backend => {
  let lab: Lab;
  let before: unknown;

  beforeAll(() => {
    user(A);
    user(B);
    lab = Lab.make({ backend, from: treeOfLogins() });
    const boot =
      'd /run/mayfly-boot 2755 root root\\nf /run/mayfly-boot/text 0644 root root - from the image\\n';
    // As the installation of systemd and D-Bus does.
    const id = 'mkdir -p /var/lib/dbus; echo 1111 >/etc/machine-id; cp /etc/machine-id /var/lib/dbus';
    const write = `printf '${boot}' >/usr/lib/tmpfiles.d/mayfly-boot.conf; ${id}`;
    lab.configure(`[update]\ncommand = ${JSON.stringify(['sh', '-c', write])}\n`);
    expect(lab.mayfly('update', '--quiet')).toMatchObject({ code: 0, err: '' });
    lab.configure('');
    lab.hook('start', A); // makes what the first login since boot makes
    lab.hook('stop', A);
    before = lab.picture();
  });
  afterEach(() => {
    lab.hook('stop', A);
    lab.hook('stop', B, ':1');
    expect(lab.picture()).toEqual(before);
  });
  afterAll(() => {
    lab.close();
    forgetUsers();
  });

  it('is inside a whole system, under the person’s own name, and schroot lists it', () => {
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    const s = lab.session(A);
    expect(sh('schroot', ['-l']).out).toContain(`chroot:${s?.id}`);
    expect(lab.inside(A, 'id', '-un').out).toBe(`${A}\n`);
    expect(lab.inside(A, 'id', '-u').out).toBe(`${uidOf(A)}\n`);
    expect(lab.inside(A, 'sh', '-c', 'echo ~').out).toBe(`/home/${A}\n`);
    expect(JSON.parse(lab.inside(A, 'cat', '/etc/mayfly-session').out)).toMatchObject({
      session: s?.id,
      user: A,
      generation: 2,
    });
    expect(
      lab.inside(A, 'sh', '-c', 'test -c /dev/null && test -d /proc/self && test -d /dev/pts && echo yes')
        .out,
    ).toBe('yes\n');
    expect(lab.inside(A, 'sh', '-c', 'ls /run/mayfly /run/systemd/private 2>&1 | wc -l').out.trim()).toBe(
      '2',
    );
  });

  it('lets nobody else in', () => {
    lab.hook('start', A);
    lab.hook('start', B, ':1');
    const id = lab.session(A)?.id ?? '';
    const other = shAs(B, ['schroot', '-d', '/', '-c', id, '--', 'true']);
    expect(other.code).not.toBe(0);
    expect(other.err).toMatch(/not authorised/);
    expect(lab.inside(B, 'true').code).toBe(0);
  });

  it('may be broken in any way, and host, neighbour and next login are pristine', () => {
    lab.hook('start', A);
    lab.hook('start', B, ':1');
    expect(
      lab.rootInside(A, 'sh', '-c', 'rm -rf --one-file-system /usr /etc /bin /lib /var/lib; echo gone').out,
    ).toBe('gone\n');
    expect(lab.inside(A, 'true').code).not.toBe(0);
    expect(lab.inside(B, 'id', '-un').out).toBe(`${B}\n`);
    expect(fs.existsSync('/usr/bin/env')).toBe(true);
    lab.hook('stop', A);
    lab.hook('start', A);
    expect(lab.inside(A, 'id', '-un').out).toBe(`${A}\n`);
    expect(lab.inGeneration(2, '/etc/passwd')).toContain('root:');
  });

  it('is of this machine, whatever the image was when it was made', () => {
    lab.hook('start', A);
    const id = lab.inside(A, 'cat', '/etc/machine-id', '/var/lib/dbus/machine-id').out;
    expect(id).toMatch(/^([0-9a-f]{32}\n)\1$/);
    const own = fs.existsSync('/etc/machine-id') ? fs.readFileSync('/etc/machine-id', 'utf8') : '';
    if (/^[0-9a-f]{32}\n$/.test(own)) expect(id).toBe(own + own);
    expect(lab.inside(A, 'date', '+%Z %z').out).toBe(sh('date', ['+%Z %z']).out);
    expect(lab.inGeneration(2, '/etc/machine-id')).toBe('');
  });
  it('keeps the home directory, and nothing else', () => {
    lab.hook('start', A);
    expect(lab.inside(A, 'sh', '-c', 'echo kept >~/kept; touch /var/tmp/mayfly-test-kept').code).toBe(0);
    lab.rootInside(A, 'touch', '/usr/local/lost', '/run/lost');
    lab.hook('stop', A);
    lab.hook('start', A);
    expect(lab.inside(A, 'cat', `/home/${A}/kept`).out).toBe('kept\n');
    expect(lab.inside(A, 'ls', '/usr/local/lost', '/run/lost').code).not.toBe(0);
    fs.unlinkSync('/var/tmp/mayfly-test-kept');
  });

  it('gives no root by sudo unless configured', () => {
    lab.hook('start', A);
    expect(lab.inside(A, 'sudo', '-n', 'id', '-u').code).not.toBe(0);
    lab.hook('stop', A);
    lab.configure(`sudo = ["${A}"]`);
    lab.hook('start', A);
    expect(lab.inside(A, 'sudo', '-n', 'id', '-u').out).toBe('0\n');
    lab.configure('');
  });

  it('gives those configured so an empty home that is gone afterwards', () => {
    lab.configure(`ephemeral_home = ["${A}"]`);
    lab.hook('start', A);
    lab.configure(''); // what a session was made with is in its record
    expect(
      lab.inside(A, 'sh', '-c', 'stat -c "%U %a" ~; ls -A ~ | grep -c bashrc; ls /home; echo lost >~/lost')
        .out,
    ).toBe(`${A} 700\n1\n${A}\n`);
    lab.hook('stop', A);
    expect(fs.existsSync(`/home/${A}/lost`)).toBe(false);
  });

  it('leaves nothing of those with an empty home on the host: files, memory, objects of IPC', () => {
    const onHost = ['/tmp', '/var/tmp', '/dev/shm', '/run/lock'].map(path => `${path}/mayfly-guest`);
    const guest = uidOf(A);
    const objects = (): string[] =>
      ['shm', 'sem', 'msg'].flatMap(kind =>
        fs
          .readFileSync(`/proc/sysvipc/${kind}`, 'utf8')
          .split('\n')
          .filter(row => row.includes(` ${guest} `)),
      );
    const queue = '/dev/mqueue/mayfly-guest';
    const hasQueues = fs.readFileSync('/proc/self/mounts', 'utf8').includes(' /dev/mqueue mqueue ');
    // Everybody may create files there. Names need not be valid UTF-8.
    const x11 = '/tmp/.X11-unix';
    const isNew = !fs.existsSync(x11);
    if (isNew) fs.mkdirSync(x11);
    fs.chmodSync(x11, 0o1777);
    const theirs = (directory: string): string[] =>
      fs
        .readdirSync(directory, { encoding: 'buffer' })
        .filter(name => fs.lstatSync(Buffer.concat([Buffer.from(`${directory}/`), name])).uid === guest)
        .map(name => name.toString('latin1'));
    lab.configure(`ephemeral_home = ["${A}"]`);
    lab.hook('start', A);
    const script = `ipcmk -M 4096 -S 1 -Q >/dev/null; odd=$(printf 'mayfly-\\377'); mkdir ${x11}/mayfly-d || exit
      touch "${x11}/$odd" ${x11}/mayfly-d/file && ln -s /etc ${x11}/mayfly-link || exit
      ${hasQueues ? 'touch "/dev/mqueue/$odd" || exit' : ''}
      for path; do touch "$path" || exit; done`;
    const made = lab.inside(A, 'sh', '-c', script, 'sh', ...onHost, ...(hasQueues ? [queue] : []));
    expect(made).toMatchObject({ code: 0, err: '' });
    expect(objects()).toHaveLength(3);
    expect(onHost.filter(path => fs.existsSync(path))).toEqual([]);
    expect(theirs(x11)).toEqual(['mayfly-d', 'mayfly-link', 'mayfly-\u00ff']);
    lab.hook('stop', A);
    expect(objects()).toEqual([]);
    expect(theirs(x11)).toEqual([]);
    if (hasQueues) expect(theirs('/dev/mqueue')).toEqual([]);
    if (isNew) fs.rmdirSync(x11);
    lab.configure('');
  });

  it('is the same whatever umask the display manager has, and /run is that of a boot', () => {
    const look = `cd /run; stat -c '%a %U %n' systemd systemd/system lock sudo mayfly-boot; cat mayfly-boot/text
      stat -c '%a %n' /etc/passwd /etc/group; stat -Lc '%a %n' shm`;
    const seen = ['022', '027', '077', '777'].map(umask => {
      const [file, args] = lab.hookArgs('lightdm', 'start');
      const env = { PATH: '/usr/bin:/bin', USER: A, DISPLAY: ':0' };
      expect(sh('sh', ['-c', `umask ${umask}; exec "$@"`, 'sh', file, ...args], { env }).code).toBe(0);
      const out = lab.inside(A, 'sh', '-c', look);
      lab.hook('stop', A);
      return out;
    });
    expect(seen[0]?.out).toMatch(/^755 root systemd\n755 root systemd\/system\n1777 root lock\n/);
    expect(seen[0]?.out).toMatch(/\n711 root sudo\n2755 root mayfly-boot\nfrom the image644/);
    for (const other of seen) expect(other).toEqual(seen[0]);
  });

  it('shows the names of others, and none of their passwords', () => {
    for (const name of [A, B]) must('usermod', ['-p', `$6$secret-of-${name}`, name]);
    lab.hook('start', A);
    const find = `ls -ld /home/${B} | cut -d' ' -f3,4; find /home -maxdepth 1 -user ${B} -group ${B}`;
    expect(lab.inside(A, 'sh', '-c', find).out).toBe(`${B} ${B}\n/home/${B}\n`);
    const files = lab.rootInside(A, 'sh', '-c', 'cat /etc/passwd /etc/group /etc/shadow /etc/gshadow').out;
    expect(files).toContain(`$6$secret-of-${A}:`);
    expect(files).not.toContain(`$6$secret-of-${B}`);
  });

  it('refuses in words what would be lost: passwd, chsh, chfn, crontab, at', () => {
    must('usermod', ['-p', '$6$secret', A]);
    lab.configure(`sudo = ["${A}"]`);
    lab.hook('start', A);
    lab.configure('');
    const shadow = lab.rootInside(A, 'cat', '/etc/shadow').out;
    for (const command of ['passwd', 'chsh -s /bin/bash', 'chfn -h 1', 'crontab -l', 'at now']) {
      const r = lab.inside(A, 'sh', '-c', `echo | ${command} 2>&1`);
      expect([command, r.code]).not.toEqual([command, 0]);
      expect(r.out).toMatch(/kept on the host|ask your administrator/i);
    }
    const asRoot = lab.rootInside(
      A,
      'sh',
      '-c',
      `echo ${A}:new | chpasswd 2>&1; echo; passwd ${A} </dev/null 2>&1`,
    );
    expect(asRoot.out.match(/is kept on the host/g)).toHaveLength(2);
    expect(lab.rootInside(A, 'cat', '/etc/shadow').out).toBe(shadow);
    // Others in the session are nobody's on the host.
    const other = 'useradd -r -p x other; echo other:new | chpasswd; grep -c other:.6 /etc/shadow';
    expect(lab.rootInside(A, 'sh', '-c', `${other} || grep -c 'other:.y' /etc/shadow`).out).toMatch(/1\n$/);
  });

  it('is joined by a second login and ended by the last logout', () => {
    lab.hook('start', A, ':0');
    const first = lab.session(A)?.id;
    lab.hook('start', A, ':1');
    expect(lab.session(A)?.id).toBe(first);
    lab.hook('stop', A, ':0');
    expect(lab.inside(A, 'true').code).toBe(0);
    lab.hook('stop', A, ':1');
    expect(lab.session(A)).toBeUndefined();
  });

  it('is fresh when the display it was on shows another login: that logout was lost', () => {
    lab.hook('start', A);
    const first = lab.session(A)?.id;
    lab.hook('start', A);
    expect(lab.session(A)?.id).not.toBe(first);
    expect(lab.records()).toHaveLength(1);
  });

  it('survives what is not a logout: other displays, other names, wrong passwords, no name', () => {
    lab.hook('start', A);
    const id = lab.session(A)?.id;
    for (const env of [
      { USER: A, DISPLAY: ':1' },
      { USER: A },
      { USER: B, DISPLAY: ':0' },
      { HOME: '/' },
      { USER: 'no-such-user', DISPLAY: ':0' },
      { USER: '../x', DISPLAY: ':0' },
    ]) {
      expect(lab.hook('stop', A, ':0', env)).toMatchObject({ code: 0 });
      expect(lab.session(A)?.id).toBe(id);
      expect(lab.inside(A, 'true').code).toBe(0);
    }
  });

  it('ends where a script of the administrator fails after it, and the reason is known', () => {
    const [setup, args] = lab.hookArgs('lightdm', 'start');
    const fails = (display: string) =>
      sh(setup, [...args, '--failed', 'the setup script "/x" of lightdm failed with exit code 1'], {
        env: { PATH: '/usr/bin:/bin', USER: A, DISPLAY: display },
      });
    for (const policy of ['refuse', 'host']) {
      lab.configure(`on_failure = "${policy}"`);
      lab.hook('start', A, ':0');
      lab.hook('start', A, ':1');
      expect(fails(':1').code).toBe(4);
      expect(lab.records()).toMatchObject([{ state: 'live', logins: [{ display: ':0' }] }]);
      const r = fails(':0');
      expect([r.code, r.err]).toEqual([4, expect.stringMatching(/the setup script "\/x" of lightdm failed/)]);
      expect(lab.records()).toEqual([]);
      const reason = fs.readFileSync(`${lab.dir}/run/users/${uidOf(A)}/reason`, 'utf8');
      expect(reason).toMatch(/"\/x" of lightdm failed with exit code 1 \(MAYFLY-REFUSED\)\n$/);
    }
    lab.configure('');
    lab.hook('start', A); // its outcome takes the place of the last one
  });

  it('is not begun for a display manager that has ended meanwhile, and leaves no reason for anybody', () => {
    const [setup, args] = lab.hookArgs('lightdm', 'start');
    const gone = sh('sh', ['-c', 'echo $$']).out.trim();
    const env = { PATH: '/usr/bin:/bin', USER: A, DISPLAY: ':0' };
    const r = sh(setup, [...args, '--caller', gone], { env });
    expect([r.code, r.err]).toEqual([
      4,
      expect.stringMatching(/the process of lightdm that called the hook has ended/),
    ]);
    expect(fs.existsSync(`${lab.dir}/run/users/${uidOf(A)}`)).toBe(false);
    expect(lab.records()).toEqual([]);
  });

  it('hooks and wrapper are inert inside', () => {
    lab.hook('start', A);
    const id = lab.session(A)?.id ?? '';
    fs.cpSync('dist', `${lab.dir}/run/roots/${id}/opt/dist`, { recursive: true });
    fs.cpSync('hooks', `${lab.dir}/run/roots/${id}/opt/hooks`, { recursive: true });
    expect(lab.rootInside(A, 'sh', '/opt/hooks/session-wrapper', 'echo', 'straight on').out).toBe(
      'straight on\n',
    );
  });

  it('the wrapper takes the desktop inside', () => {
    lab.hook('start', A);
    const desktop = ['sh', '-c', 'cat /etc/mayfly-session; echo "$GREETING"'];
    const r = shAs(A, [lab.wrapper(), '--run', `${lab.dir}/run`, ...desktop], {
      env: { PATH: '/usr/bin:/bin', HOME: `/home/${A}`, GREETING: 'hello' },
      cwd: '/',
    });
    expect(r.out).toContain(lab.session(A)?.id);
    expect(r.out).toContain('hello');
  });

  it('an excluded person gets the host: no session, exit code 0', () => {
    lab.configure(`exclude = ["root", "${A}"]`);
    expect(lab.hook('start', A)).toMatchObject({ code: 0 });
    expect(lab.session(A)).toBeUndefined();
    lab.configure('');
  });

  it('everything it left running is gone: daemons, deeper chroots, own mount namespaces, open files', async () => {
    lab.hook('start', A);
    lab.linger(A, false, 'trap "" TERM HUP; sleep 1000 & setsid sleep 1000 & wait');
    lab.linger(
      A,
      true,
      'mkdir -p /deep && cp -a /bin /lib* /deep/ 2>/dev/null; mkdir -p /deep/usr && cp -a /usr/bin /usr/lib /usr/lib64 /deep/usr/; chroot /deep /bin/sh -c "sleep 1000"',
    );
    lab.linger(A, true, 'unshare -m sh -c "mount -t tmpfs x /mnt; cd /mnt; sleep 1000"');
    lab.linger(A, true, 'exec 3>/var/open; cd /proc; unshare -m sleep 1000');
    await until(() => lab.processesInside().length >= 5, 20_000);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.processesInside()).toEqual([]);
  });

  it('a program that saves when it is told to end has time; neither the greeter nor the next login waits', async () => {
    lab.configure('[logout]\ngrace = 300\n');
    const at = (name: string): string => `/tmp/mayfly-${process.pid}-${name}`;
    for (const name of ['ready', 'told', 'go', 'saved'])
      onTestFinished(() => fs.rmSync(at(name), { force: true }));
    const save = `touch ${at('told')}; until [ -e ${at('go')} ]; do sleep 0.1; done; echo all >${at('saved')}; exit`;
    lab.hook('start', A);
    const first = lab.session(A)?.id;
    lab.linger(A, false, `trap "${save}" TERM; touch ${at('ready')}; while :; do sleep 0.1; done`);
    lab.linger(A, false, 'trap "" TERM HUP; while :; do sleep 1; done');
    await until(() => fs.existsSync(at('ready')), 20_000);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    await until(() => fs.existsSync(at('told')), 20_000); // a shell has its turn when its child has ended
    expect(lab.records()).toMatchObject([
      { id: first, state: 'ending', saving: { who: expect.stringMatching(/^process \d+ sh/) } },
    ]);
    expect(lab.mayfly('sessions').out).toMatch(/ending: waits for process \d+ sh/);
    for (let i = 0; i < 2; i++) {
      expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
      expect(lab.session(A)?.id).not.toBe(first);
    }
    fs.writeFileSync(at('go'), '');
    await until(() => lab.records().length === 1, 30_000);
    expect(fs.readFileSync(at('saved'), 'utf8')).toBe('all\n');
    expect(lab.inside(A, 'true').code).toBe(0);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    lab.configure('');
  });

  it('immutable files, very deep trees and foreign names are removed too', () => {
    lab.hook('start', A);
    lab.rootInside(
      A,
      'sh',
      '-c',
      'cd /root; echo x >immutable; chattr +i immutable; mkdir d; touch d/append; chattr +a d/append; touch -- "-rf" "a\nb"',
    );
    lab.inside(A, 'perl', '-e', 'chdir "/var/tmp"; 1');
    lab.rootInside(A, 'perl', '-e', 'chdir "/srv"; for (1..300) { mkdir "d" x 200; chdir "d" x 200 or die }');
    // By the host's chattr(1), because an image need not have it.
    const deep =
      'chdir shift or die; while (chdir "d" x 200) {} open my $f, ">", "x"; exec "chattr", "+i", "x"';
    must('perl', ['-e', deep, `${lab.session(A)?.root}/srv`]);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    lab.erased();
    const waiting: { deleted: boolean }[] = JSON.parse(lab.mayfly('status', '--json').out).discarded;
    expect(waiting.filter(d => !d.deleted)).toEqual([]);
  });

  it('a symlink planted inside leads teardown nowhere', () => {
    lab.hook('start', A);
    const victim = `${lab.dir}/victim`;
    fs.mkdirSync(victim);
    fs.writeFileSync(`${victim}/precious`, 'precious');
    lab.rootInside(
      A,
      'sh',
      '-c',
      `rm -rf /srv /opt; ln -s ${victim} /srv; ln -s ${victim} /opt; ln -s / /var/root; ln -sf ${victim}/precious /etc/passwd`,
    );
    lab.hook('stop', A);
    expect(fs.readFileSync(`${victim}/precious`, 'utf8')).toBe('precious');
    fs.rmSync(victim, { recursive: true });
  });

  it('leaves a host process of the same person alone, even with an open home', async () => {
    const outside = shAs(A, ['sh', '-c', `cd /home/${A}; sleep 1000 >/dev/null 2>&1 & echo $!`]);
    const pid = Number(outside.out);
    lab.hook('start', A);
    lab.hook('stop', A);
    await sleep(50);
    expect(fs.existsSync(`/proc/${pid}/cwd`)).toBe(true);
    process.kill(pid, 'SIGKILL');
  });

  it('the same name gives the same rights, and an equal number alone gives none', () => {
    sameNameSameRights(lab, A);
    before = lab.picture();
  });
});

describe.runIf(BACKENDS.includes('overlay'))('an upper layer on tmpfs', () => {
  it('has the size it was given, hurts nobody when full, and is gone after logout', () => {
    user(A);
    const lab = Lab.make({ backend: 'overlay', config: '[overlay]\nupper = "tmpfs"\nsize = "16M"\n' });
    lab.configure('[overlay]\nupper = "tmpfs"\nsize = "16M"\n');
    lab.hook('start', A);
    lab.hook('stop', A);
    const before = lab.picture();
    expect(lab.hook('start', A)).toMatchObject({ code: 0 });
    const full = lab.rootInside(A, 'dd', 'if=/dev/zero', 'of=/root/big', 'bs=1M', 'count=64');
    expect(full.err).toMatch(/No space left/);
    expect(lab.inside(A, 'id', '-un').out).toBe(`${A}\n`);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.picture()).toEqual(before);
    lab.close();
    forgetUsers();
  });
});
