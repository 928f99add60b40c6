/** The safety rules of login and logout: what they refuse and what they leave alone. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { login } from '../../src/session/session.ts';
import { endProbation, probation, writeProbation } from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { writePool } from '../../src/state/pool.ts';
import { readSessions, type Session, writeSession } from '../../src/state/sessions.ts';
import type { VolumeBackend } from '../../src/volume/backend.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const alice = (w: World, on: Machine = w.machine()): Promise<Session | undefined> =>
  login(on, callOf(w, 'alice', ':0'));
const sessionsOf = (w: World): Session[] => readSessions(w.host, w.machine().paths);

/** A machine with another backend. */
function withBackend(w: World, change: (b: VolumeBackend) => Partial<VolumeBackend>): Machine {
  const backend = w.backend();
  return { ...w.machine(), backend: () => ({ ...backend, ...change(backend) }) };
}

/** A world in which everything that is created on first use exists. */
async function usedWorld(): Promise<World> {
  const w = preparedWorld();
  const s = await alice(w);
  await end(w.machine(), s?.id ?? '');
  w.newProcess();
  return w;
}

describe('a mount that did not happen although its command succeeded', () => {
  it('fails the login, writes nothing to the host and kills no process', async () => {
    const w = await usedWorld();
    const before = w.picture();
    w.programs.perl = () => undefined;
    await expect(alice(w)).rejects.toMatchObject({
      code: 'unsafe',
      message: expect.stringMatching(/^nothing is mounted at "\/run\/mayfly\/roots\/u1001-/),
    });
    expect(w.picture()).toBe(before);
  });

  it('leaves the host alone, also if the mount point has an /etc', async () => {
    const w = await usedWorld();
    const { roots } = w.machine().paths;
    w.programs.perl = args => {
      const root = args.find(a => a.startsWith(`${roots}/`)) ?? '';
      w.makeDirs(`${root}/etc`);
      for (const name of ['passwd', 'group', 'shadow'])
        w.put(`${root}/etc/${name}`, 'root:x:0:0::/:/bin/sh\n');
      return undefined;
    };
    await expect(alice(w)).rejects.toThrow(/nothing is mounted/);
    const [root = ''] = w.host.list(roots);
    expect(w.host.read(`${roots}/${root}/etc/passwd`)).toBe('root:x:0:0::/:/bin/sh\n');
  });
});

describe('device numbers of a record', () => {
  /** Alice's session without its tree; the kernel has given its device number to the next mount. */
  async function reused(): Promise<{ w: World; s: Session; other: number }> {
    const w = await usedWorld();
    const s = await alice(w);
    if (!s) throw new Error('out of scope');
    w.programs.umount?.([s.root]);
    w.mountEmpty('/media/stick');
    const other = w.enter('/media/stick');
    const dev = w.host.lstat('/media/stick')?.dev ?? 0;
    writeSession(w.host, w.machine().paths, { ...s, devices: [dev] });
    return { w, s, other };
  }

  it('that are not mounted at the root any more kill no process, because they may be reused', async () => {
    const { w, s, other } = await reused();
    await end(w.machine(), s.id);
    expect(w.processes.has(other)).toBe(true);
    expect(sessionsOf(w)).toEqual([]);
  });

  it('count while the kernel reports the volume in use', async () => {
    const { w, s, other } = await reused();
    let asked = 0;
    const on = withBackend(w, () => ({
      busyReason: async v => {
        asked += 1;
        expect(v.name).toBe(s.id);
        return 'it is in use';
      },
    }));
    await end(on, s.id);
    expect(asked).toBe(1);
    expect(w.processes.has(other)).toBe(false);
  });

  it('of another boot kill no process, even if the volume is in use', async () => {
    const { w, s, other } = await reused();
    const on = withBackend(w, () => ({ busyReason: async () => 'it is in use' }));
    writeSession(w.host, on.paths, { ...s, devices: [w.processes.get(other)?.dev ?? 0], boot: 'boot-0' });
    await end(on, s.id);
    expect(w.processes.has(other)).toBe(true);
  });

  it('that were never recorded are limited to that of the root', async () => {
    const w = await usedWorld();
    const s = await alice(w);
    if (!s) throw new Error('out of scope');
    writeSession(w.host, w.machine().paths, { ...s, devices: [], state: 'starting' });
    w.mountEmpty(`${s.root}/run`); // the host's, where the session's own would have been mounted next
    const [mine, other] = [w.enter(s.root), w.enter(`${s.root}/run`)];
    await end(w.machine(), s.id);
    expect([mine, other].map(pid => w.processes.has(pid))).toEqual([false, true]);
  });

  it('of a mount made over the root later kill no process', async () => {
    const w = await usedWorld();
    const s = await alice(w);
    if (!s) throw new Error('out of scope');
    w.mountEmpty(s.root);
    const other = w.enter(s.root);
    await end(w.machine(), s.id);
    expect(w.processes.has(other)).toBe(true);
  });
});

describe('a storage command that does not finish in time', () => {
  it('is left running, and recovery takes the session down later', async () => {
    const w = await usedWorld();
    const before = w.picture();
    const removed: string[] = [];
    let finish = async (): Promise<void> => undefined;
    const on = withBackend(w, backend => ({
      fork: async (from, to, o) => {
        finish = () => backend.fork(from, to, o);
        throw new MayflyError('timeout', '"lvcreate" did not finish in time; it was left running');
      },
      discard: async v => {
        removed.push(v.name);
        return backend.discard?.(v);
      },
    }));
    await expect(alice(w, on)).rejects.toMatchObject({ code: 'timeout' });
    expect(removed).toEqual([]);
    const [s] = sessionsOf(w);
    expect(s).toMatchObject({ state: 'ending', stuck: expect.stringMatching(/did not finish in time/) });
    await finish(); // the command has continued and created the volume
    expect([...w.volumes.keys()].some(v => v.endsWith(s?.id ?? '-'))).toBe(true);
    w.newProcess();
    expect((await recover(w.machine())).ended).toEqual([s?.id]);
    expect(w.picture()).toBe(before);
  });
});

describe('loop devices at a logout', () => {
  it('on files of the session are detached before its tree; all others stay', async () => {
    const w = await usedWorld();
    const s = await alice(w);
    if (!s) throw new Error('out of scope');
    const [volume = 0, run = 0] = s.devices;
    // Of each device: its file, as the kernel shows it, and the device number of that.
    const files: Record<string, [string, number]> = {
      loop0: [`${s.root}/home/alice/disk.img`, 9999], // a file of the host
      loop1: ['/var/lib/disk.img', 9999],
      loop2: [`${s.root}x/disk.img`, 9999],
      loop4: ['/disk.img (deleted)', run], // in another mount namespace
      loop10: [`${s.root}/root/disk.img`, 9998],
      loop11: ['/shm/disk.img', volume],
    };
    for (const [name, [file]] of Object.entries(files)) {
      w.makeDirs(`/sys/block/${name}/loop`);
      w.put(`/sys/block/${name}/loop/backing_file`, `${file}\n`);
    }
    w.makeDirs('/sys/block/loop3');
    w.programs.losetup = args => {
      if (args[0] === '--list')
        return {
          stdout: Object.entries(files)
            .map(([name, [file, on]]) => `/dev/${name} \\x20${on >> 8}:${on & 255} ${file}\n`)
            .join(''),
        };
      expect(w.host.lstat(s.root)?.dev).toBe(volume); // still mounted
      w.host.unlink(`/sys/block/${args[1]?.slice('/dev/'.length)}/loop/backing_file`);
      return undefined;
    };
    w.ran.length = 0;
    await end(w.machine(), s.id);
    expect(w.ran.filter(c => c.startsWith('losetup -d'))).toEqual(
      ['loop0', 'loop11', 'loop10', 'loop4'].map(name => `losetup -d /dev/${name}`),
    );
    expect(sessionsOf(w)).toEqual([]);
  });
});

describe('a generation whose volume was replaced', () => {
  const stable = '/var/lib/mayfly/pool/generation/1';

  it('refuses a login with the reason', async () => {
    const w = await usedWorld();
    const before = w.volumes.size;
    const backend = w.backend();
    const volume = {
      backend: 'overlay',
      pool: '/var/lib/mayfly/pool',
      role: 'generation',
      name: '1',
    } as const;
    await backend.fork(volume, { ...volume, name: '2' });
    await backend.remove(volume);
    await backend.rename({ ...volume, name: '2' }, volume);
    expect(w.volumes.has(stable)).toBe(true);
    await expect(alice(w)).rejects.toMatchObject({
      code: 'no-generation',
      message: 'generation 1 cannot be used: its volume was replaced',
    });
    expect(sessionsOf(w)).toEqual([]);
    expect(w.volumes.size).toBe(before);
  });

  it('accepts a login if its record is from an earlier version', async () => {
    const w = await usedWorld();
    const file = `${w.machine().paths.generations}/1.json`;
    w.put(file, (w.host.read(file) ?? '').replace(/"memory \d+"/, '"memory"'));
    expect((await alice(w))?.state).toBe('live');
  });
});

describe('the order of steps', () => {
  /** The effects on a session, in order. */
  function watched(w: World): { on: Machine; seen: string[] } {
    const seen: string[] = [];
    const note = (what: string): void => void (seen.at(-1) === what || seen.push(what));
    const base = withBackend(w, b => ({
      fork: async (from, to, o) => {
        note('fork');
        await b.fork(from, to, o);
      },
      discard: async v => {
        note('discard');
        await b.discard?.(v);
      },
    }));
    const { host, paths } = base;
    const isEntry = (path: string): boolean => path.startsWith(`${paths.schroot}/mayfly-`);
    const isRecord = (path: string): boolean => path.startsWith(`${paths.sessions}/`);
    const watching: Machine['host'] = {
      ...host,
      run(c) {
        if (c.file === 'perl') note(c.args.includes('detach') ? 'detach' : 'mount');
        return host.run(c);
      },
      write(path, text, o) {
        if (isRecord(path)) note('record');
        if (isEntry(path)) note('open');
        if (path.endsWith('/etc/passwd')) note('identity');
        host.write(path, text, o);
      },
      unlink(path) {
        if (isRecord(path)) note('forget');
        if (isEntry(path)) note('close');
        host.unlink(path);
      },
      kill(pid, signal) {
        note('kill');
        return host.kill(pid, signal);
      },
    };
    return { on: { ...base, host: watching }, seen };
  }

  it('of a login is the record first and access last', async () => {
    const w = await usedWorld();
    const { on, seen } = watched(w);
    await alice(w, on);
    expect(seen).toEqual(['record', 'fork', 'mount', 'identity', 'record', 'open', 'record']);
  });

  it('of a logout is access first, processes before mounts, then the volume, and the record last', async () => {
    const w = await usedWorld();
    const s = await alice(w);
    w.enter(s?.root ?? '');
    const { on, seen } = watched(w);
    await end(on, s?.id ?? '');
    expect(seen).toEqual(['record', 'close', 'kill', 'detach', 'discard', 'forget']);
  });
});

describe('admission', () => {
  const MIN_FREE = 512 * 2 ** 20; // the default
  const G = 2 ** 30;
  it.each([
    ['there is room', { total: 100 * G, free: 50 * G }, undefined],
    ['it is fuller than the limit', { total: 100 * G, free: 4.9 * G }, /is 95 % full/],
    ['it is as full as the limit', { total: 100 * G, free: 5 * G }, undefined],
    ['less is free than a login needs', { total: 2 * G, free: MIN_FREE - 1 }, /a new login needs 512 MiB/],
    ['just enough is free', { total: 2 * G, free: MIN_FREE }, undefined],
  ])('is decided by the pool: %s', async (_what, room, refusal) => {
    const w = await usedWorld();
    w.space = () => ({ ...room, used: room.total - room.free, inodes: 0, freeInodes: 0, type: 0 });
    const made = alice(w);
    if (refusal === undefined) expect((await made)?.state).toBe('live');
    else await expect(made).rejects.toMatchObject({ code: 'full', message: expect.stringMatching(refusal) });
    expect(sessionsOf(w)).toHaveLength(refusal === undefined ? 1 : 0);
  });

  it.each([
    ['has room', MIN_FREE, true],
    ['has none', MIN_FREE - 1, false],
  ])('is decided by the file system that holds the pool’s image, which %s', async (_what, free, admitted) => {
    const w = await usedWorld();
    const { paths } = w.machine();
    const image = '/var/lib/mayfly/pool.img';
    writePool(w.host, paths, { backend: 'btrfs', path: '/var/lib/mayfly/pool', image });
    const file = `${paths.generations}/1.json`;
    w.put(file, (w.host.read(file) ?? '').replace('"overlay"', '"btrfs"'));
    w.space = path => ({
      ...{ total: 2 * G, used: G, free: path === image ? free : G },
      ...{ inodes: 0, freeInodes: 0, type: 0 },
    });
    if (admitted) expect((await alice(w))?.state).toBe('live');
    else await expect(alice(w)).rejects.toMatchObject({ code: 'full' });
  });
});

describe('a fault of the pool or the kernel', () => {
  const failing = (w: World, error: unknown): Machine =>
    withBackend(w, () => ({
      fork: async () => {
        throw error;
      },
    }));
  const errno = (code: string): Error => Object.assign(new Error(`${code}: no`), { code });

  it.each([
    [new MayflyError('command', '"btrfs" failed') as Error, '"btrfs" failed'] as const,
    ...['EIO', 'EROFS', 'ENOSPC', 'EDQUOT'].map(code => [errno(code), `${code}: no`] as const),
  ])('refuses the login with the reason (%s), and is no fault of the generation', async (error, reason) => {
    const w = await usedWorld();
    const on = failing(w, error);
    const before = w.picture();
    writeProbation(w.host, on.paths, { number: 1, previous: 1, failures: 0 });
    await expect(alice(w, on)).rejects.toMatchObject({
      code: /^(ENOSPC|EDQUOT)/.test(reason) ? 'full' : 'refused',
      message: `cannot create a session in the pool "/var/lib/mayfly/pool": ${reason}`,
      facts: { hint: 'mayfly doctor' },
    });
    expect(probation(w.host, on.paths)).toEqual({ number: 1, previous: 1, failures: 0 });
    endProbation(w.host, on.paths);
    expect(w.picture()).toBe(before);
  });

  it('leaves other errors as they are', async () => {
    const w = await usedWorld();
    await expect(alice(w, failing(w, errno('EINVAL')))).rejects.toThrow(/^EINVAL/);
  });

  it('such as a file system that the kernel has lost names the command', async () => {
    const w = await usedWorld();
    const { perl } = w.programs;
    w.makeDirs('/lib/modules/6.2');
    w.makeDirs('/proc/sys/kernel');
    w.put('/proc/sys/kernel/osrelease', '6.1\n');
    w.programs.modprobe = () => {
      throw new MayflyError('command', '"modprobe" failed');
    };
    w.programs.perl = args => {
      const target = args.slice(args.indexOf('--') + 4)[2] ?? '';
      if (!target.startsWith('/run/mayfly/roots/') || args.includes('detach')) return perl?.(args);
      const stderr = `cannot mount overlay on ${target}: No such device\n`;
      throw new MayflyError('command', `"perl" failed: ${stderr}`, { stderr });
    };
    await expect(alice(w)).rejects.toMatchObject({
      code: 'refused',
      message: 'this kernel does not support memory: its modules are missing, there is no "/lib/modules/6.1"',
      facts: { hint: 'reboot' },
    });
    expect(sessionsOf(w)).toEqual([]);
  });
});

it.each([
  ['bob', 'alice', '#1001 ALL=(ALL:ALL) !ALL\n'],
  ['alice', 'alice', '#1001 ALL=(ALL:ALL) NOPASSWD: ALL\n'],
])('with sudo for %s, %s gets %j', async (allowed, user, rule) => {
  const w = await usedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', `sudo = ["${allowed}"]\n`);
  const generation = w.volumes.get('/var/lib/mayfly/pool/generation/1')?.nodes;
  const etc = generation?.get('/etc');
  if (etc) generation?.set('/etc/sudoers.d', etc);
  const s = await login(w.machine(), callOf(w, user, ':0'));
  expect(w.host.read(`${s?.root}/etc/sudoers.d/zz-mayfly`)).toBe(rule);
});
