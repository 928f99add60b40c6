/** Looking at real processes: what is found, what is not looked at, and file systems that never answer. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { killAll } from '../../src/linux/kill.ts';
import { lookAtProcesses } from '../../src/linux/process-look.ts';
import { findHolders, findUsers, isUsed } from '../../src/linux/processes.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { mayHang, remoteMounts } from '../../src/linux/remote.ts';
import { canServe, type FileServer, fileServer } from '../file-server.ts';

const host = realHost();
const ME = process.getuid?.() ?? 0;

const running: ChildProcess[] = [];
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

/** Starts a program and waits until it says "ready". */
async function start(file: string, args: readonly string[], uid = ME): Promise<number> {
  const o = ME === 0 ? { uid, gid: uid } : {};
  const child = spawn(file, args, { ...o, cwd: '/', stdio: ['ignore', 'pipe', 'inherit'] });
  running.push(child);
  await new Promise((yes, no) => {
    child.stdout?.once('data', yes);
    child.once('close', code => no(new Error(`${file} ended with ${code}`)));
  });
  return child.pid ?? 0;
}

/** Perl code that says "ready" and stays until it is killed. */
const stay = '$| = 1; print "ready\\n"; sleep 1000;';
const perl = (code: string, args: readonly string[] = [], uid = ME): Promise<number> =>
  start('perl', ['-e', `${code}; ${stay}`, ...args], uid);

describe.runIf(ME === 0)('a look at processes', () => {
  const place = fs.mkdtempSync(`${tmpdir()}/mayfly-look-`);
  let devices: Set<number>;
  beforeAll(() => {
    // Not visible to others, and gone with this process at the latest.
    if (spawnSync('mount', ['-t', 'tmpfs', 'mayfly-test', place]).status !== 0) throw new Error('no tmpfs');
    fs.chmodSync(place, 0o755);
    for (const name of ['file', 'a\tb\n%41ä']) fs.writeFileSync(`${place}/${name}`, '', { mode: 0o666 });
    fs.cpSync('/bin/sleep', `${place}/sleep`);
    devices = new Set([fs.statSync(place).dev]);
  });
  afterAll(() => {
    spawnSync('umount', ['-l', place]);
    fs.rmdirSync(place);
  });

  const user = { uid: 12345 };

  it('finds each way to use a file system, by its name as it is', async () => {
    const cwd = await perl('chdir shift', [place]);
    const open = await perl('open our $f, "<", shift', [`${place}/a\tb\n%41ä`]);
    const rooted = await perl('chroot shift or die', [place]);
    const named = await perl('open our $f, "<", shift; $0 = "x\ty%"', [`${place}/file`]);
    const { users, unseen } = await lookAtProcesses(host, { devices, of: 'all' });
    const uses = Object.fromEntries(users.map(u => [u.pid, [u.name, u.use]]));
    expect(uses).toEqual({
      [cwd]: ['perl', 'cwd'],
      [open]: ['perl', `open file ${place}/a\tb\n%41ä`],
      [rooted]: ['perl', 'root'],
      [named]: ['x\ty%', `open file ${place}/file`],
    });
    expect(unseen).toEqual([]);
  });

  it('looks at descriptors of those that it is asked about only, but at every root directory', async () => {
    const code = 'open our $f, "<", shift';
    const own = await perl(code, [`${place}/file`], 12345);
    const system = await perl(code, [`${place}/file`], 0);
    const other = await perl(code, [`${place}/file`], 54321);
    const rooted = await perl('chroot shift or die; $> = $< = 54321', [place]);
    const found = async (of: Parameters<typeof lookAtProcesses>[1]['of']): Promise<number[]> =>
      (await lookAtProcesses(host, { devices, of })).users.map(u => u.pid).sort((a, b) => a - b);
    const sorted = (...pids: number[]): number[] => pids.sort((a, b) => a - b);
    expect(await found(user)).toEqual(sorted(own, rooted));
    expect(await found({ ...user, system: true })).toEqual(sorted(own, system, rooted));
    expect(await found('all')).toEqual(sorted(own, system, other, rooted));
    expect((await findUsers(host, devices, 12345)).sort((a, b) => a - b)).toEqual(sorted(own, rooted));
  });

  it('finds a file that is mapped, without a descriptor', async () => {
    const library = `${place}/a library`;
    const [libc = ''] = /\/\S+\/libc\.so\S*/.exec(fs.readFileSync('/proc/self/maps', 'utf8')) ?? [];
    fs.copyFileSync(libc, library);
    // The loader of a dynamic program opens, maps and closes it.
    const load = 'require DynaLoader; DynaLoader::dl_load_file(shift, 0) or die DynaLoader::dl_error()';
    const own = await perl(load, [library], 12345);
    const other = await perl(load, [library], 54321);
    expect(
      fs.readdirSync(`/proc/${own}/fd`).map(fd => fs.readlinkSync(`/proc/${own}/fd/${fd}`)),
    ).not.toContain(library);
    const { users } = await lookAtProcesses(host, { devices, of: 'all' });
    expect(users.map(u => [u.pid, u.use]).sort()).toEqual(
      [own, other].map(pid => [pid, `mapped file ${library}`]).sort(),
    );
    expect(await findUsers(host, devices, 12345)).toEqual([own]);
    expect(
      await findUsers(
        { ...host, list: path => (path === '/sys/class/bdi' ? ['fuse'] : host.list(path)) },
        devices,
        12345,
      ),
    ).toEqual([own]);
  });

  it('finds the mount in another namespace', async () => {
    const script = 'echo ready; exec sleep 1000';
    const pid = await start('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script]);
    spawnSync('umount', ['-l', place]);
    try {
      const [dev = 0] = devices;
      const device = `${Math.floor(dev / 256) & 0xfff}:${dev % 256}`;
      const holders = await findHolders(host, devices, { device, root: '' });
      expect(holders.map(h => [h.pid, h.what])).toContainEqual([pid, `sleep (its mount at ${place})`]);
    } finally {
      process.kill(pid, 'SIGKILL');
      spawnSync('mount', ['-t', 'tmpfs', 'mayfly-test', place]);
      fs.writeFileSync(`${place}/file`, '', { mode: 0o666 });
      devices = new Set([fs.statSync(place).dev]);
    }
  });

  it('of a user who leaves does not take long, whatever another one has open', async () => {
    const many = 'my @f; for (1 .. 4000) { open my $f, "<", "/dev/null" or last; push @f, $f } our $k = \\@f';
    const limit = 'exec "prlimit", "--nofile=5000:5000", "perl", "-e", @ARGV';
    const others: number[] = [];
    for (let i = 0; i < 5; i++) others.push(await start('perl', ['-e', limit, `${many}; ${stay}`], 54321));
    const own = await perl('open our $f, "<", shift', [`${place}/file`], 12345);
    const looked = new Set<number>();
    const seen = (path: string): void => {
      const pid = /^\/proc\/(\d+)\/(fd|map_files)/.exec(path)?.[1];
      if (pid !== undefined) looked.add(Number(pid));
    };
    const counting = {
      ...host,
      stat: (path: string) => {
        seen(path);
        return host.stat(path);
      },
      list: (path: string) => {
        seen(path);
        return host.list(path);
      },
    };
    await killAll(counting, { devices, group: undefined, uid: 12345 }, { grace: 10_000, timeout: 10_000 });
    expect(fs.existsSync(`/proc/${own}/cwd`)).toBe(false);
    expect(others.filter(pid => looked.has(pid))).toEqual([]);
  });

  it('of more descriptors than a hook looks at itself is made by a child', async () => {
    const many =
      'open our $g, "<", shift; my @f; for (1 .. 1200) { open my $f, "<", "/dev/null" or die; push @f, $f } our $k = \\@f';
    const limit = 'exec "prlimit", "--nofile=5000:5000", "perl", "-e", @ARGV';
    const pid = await start('perl', ['-e', limit, `${many}; ${stay}`, `${place}/file`], 12345);
    const ran: string[] = [];
    const run: typeof host.run = c => {
      ran.push(c.file);
      return host.run(c);
    };
    const watched = { ...host, run };
    expect(await findUsers(watched, devices, 12345)).toEqual([pid]);
    expect(ran).toEqual(['perl']);
  });
});

describe.runIf(canServe)('a file system that never answers', () => {
  const base = fs.mkdtempSync(`${tmpdir()}/mayfly-dead-`);
  const [dead, mine] = [`${base}/dead`, `${base}/mine`];
  let server: FileServer;
  let devices: Set<number>;

  beforeAll(async () => {
    for (const path of [dead, mine]) fs.mkdirSync(path);
    spawnSync('mount', ['-t', 'tmpfs', 'mayfly-test', mine]);
    devices = new Set([fs.statSync(mine).dev]);
    server = await fileServer(dead);
  });
  afterAll(async () => {
    for (const child of running.splice(0)) child.kill('SIGKILL');
    await server.close();
    spawnSync('umount', ['-l', mine]);
    for (const path of [dead, mine, base]) fs.rmdirSync(path);
  });

  it('is known, and hinders no look, also when it is unmounted and a process has its root there', async () => {
    expect(mayHang(host)).toBe(true);
    expect(remoteMounts(host)).toContain(dead);
    const lost = await perl('chroot shift or die; chdir "/"', [dead]);
    const own = await perl('chroot shift or die', [mine]);
    await server.silence();
    spawnSync('umount', ['-l', dead]);
    expect(mayHang(host)).toBe(true);
    expect(remoteMounts(host)).not.toContain(dead);
    // stat(2) of /proc/PID/root would wait for ever now, beyond any signal.
    expect(await findUsers(host, devices, 12345)).toEqual([own]);
    expect(await findHolders(host, devices, mine)).toMatchObject([{ pid: own }]);
    expect(await isUsed(host, devices, 12345)).toBe(true);
    await killAll(host, { devices, group: undefined, uid: 12345 }, { grace: 10_000, timeout: 10_000 });
    expect(fs.existsSync(`/proc/${own}/cwd`)).toBe(false);
    expect(fs.existsSync(`/proc/${lost}/status`)).toBe(true);
  });
});
