/** Where a pool may be, and that nobody but root gets into it. */
import { describe, expect, it } from 'vitest';
import { readOnly, runChecks } from '../../src/cli/doctor/check.ts';
import { poolChecks } from '../../src/cli/doctor/pool.ts';
import { MayflyError } from '../../src/errors.ts';
import { recover } from '../../src/service/recover.ts';
import { makeDirectories } from '../../src/state/paths.ts';
import { readPool, writePool } from '../../src/state/pool.ts';
import { init } from '../../src/update/init.ts';
import { mountPool } from '../../src/update/pool.ts';
import { MAX_POOL_PATH, makePoolDirectory } from '../../src/update/pool-directory.ts';
import type { Pool } from '../../src/volume/backend.ts';
import { overlayBackend } from '../../src/volume/overlay.ts';
import { World } from '../world.ts';

const STATE = '/var/lib/mayfly';

/** Makes a directory with an owner and a mode. */
function directory(w: World, path: string, uid: number, mode: number): void {
  w.makeDirs(path);
  w.chown(path, uid, mode);
}

/** Owner, group and mode. */
const access = (w: World, path: string): string => {
  const s = w.host.lstat(path);
  return `${s?.uid} ${s?.gid} ${s?.mode.toString(8)}`;
};

describe('the directory of a new pool', () => {
  it('is accessible to root only, whoever owned it before', async () => {
    for (const [uid, mode] of [
      [1001, 0o755],
      [0, 0o755],
      [1001, 0o700],
    ] as const) {
      const w = new World();
      directory(w, '/disk', uid, mode);
      await overlayBackend(w.host).prepare('/disk');
      for (const path of ['/disk', '/disk/generations', '/disk/sessions'])
        expect(access(w, path)).toBe('0 0 700');
    }
  });

  it.each(['notes.txt', 'master', '.mayfly-pool'])(
    'is refused and stays as it is if it holds "%s" of somebody else',
    async name => {
      const w = new World();
      directory(w, '/disk', 1001, 0o755);
      w.put(`/disk/${name}`, '');
      w.chown(`/disk/${name}`, 1001, 0o644);
      const before = w.picture();
      await expect(overlayBackend(w.host).prepare('/disk')).rejects.toMatchObject({ code: 'unsafe' });
      expect(w.picture()).toBe(before);
      expect(access(w, '/disk')).toBe('1001 1001 755');
    },
  );

  it('is refused if its owner puts something in it before root has it', async () => {
    const w = new World();
    directory(w, '/disk', 1001, 0o755);
    const own: World['host']['own'] = (path, mode) => {
      if (path === '/disk') w.put('/disk/master', '');
      w.host.own(path, mode);
    };
    await expect(overlayBackend({ ...w.host, own }).prepare('/disk')).rejects.toThrow(/it holds "master"/);
    expect(w.host.lstat('/disk/.mayfly-pool')).toBeUndefined();
  });

  it('is refused if it is a symlink', async () => {
    const w = new World();
    w.makeDirs('/elsewhere');
    w.host.symlink('/elsewhere', '/disk');
    await expect(overlayBackend(w.host).prepare('/disk')).rejects.toThrow(/is not a directory$/);
  });

  it.each([
    ['/srv/alice/pool', '/srv/alice', 1001, 0o755],
    ['/srv/lab/a/pool', '/srv/lab', 0, 0o775],
    ['/pool', STATE.slice(0, STATE.lastIndexOf('/')), 0, 0o777],
  ])('%s is refused if "%s" belongs to uid %d with mode %o', async (path, parent, uid, mode) => {
    const w = new World();
    directory(w, parent, uid, mode);
    const before = w.picture();
    expect(() => makePoolDirectory(w.host, path, STATE)).toThrow(
      expect.objectContaining({
        code: 'unsafe',
        message: expect.stringContaining(`"${parent}"`),
        facts: { path: parent, hint: `chown root: ${parent} && chmod go-w ${parent}` },
      }),
    );
    expect(w.picture()).toBe(before);
  });

  it('is refused if its path is too long for the options of a mount', async () => {
    const longest = `/${'p'.repeat(MAX_POOL_PATH - 1)}`;
    const w = new World();
    makePoolDirectory(w.host, longest, STATE);
    const origin = { backend: 'overlay', pool: longest, role: 'generation', name: '999999999' } as const;
    const v = { ...origin, role: 'session', name: 'u4294967295-00000000', origin } as const;
    const { options } = await overlayBackend(w.host).mount(v, '/r');
    for (const option of options.split(','))
      expect(option.replace(/^\w+=/, '').length).toBeLessThanOrEqual(255);
    expect(options).toMatch(/=.{255},/);
    expect(options.length).toBeLessThan(4096);
    const on = w.machine();
    const config = { ...on.config, pool: { ...on.config.pool, path: `${longest}p` } };
    await expect(
      init({ ...on, config }, { backend: 'overlay', source: { kind: 'host' }, say: () => undefined }),
    ).rejects.toMatchObject({ code: 'refused', facts: { hint: 'set a shorter "pool.path"' } });
    expect(w.picture()).not.toContain(`${longest}p`);
  });
});

it('a pool that cannot hold sessions is refused before it is recorded or filled', async () => {
  const w = new World();
  const on = w.machine();
  w.programs.unshare = () => {
    throw new MayflyError('command', '"unshare" failed: cannot mount overlay', { exitCode: 32, stderr: '' });
  };
  const refused = init(on, { backend: 'overlay', source: { kind: 'host' }, say: () => undefined });
  await expect(refused).rejects.toMatchObject({
    code: 'refused',
    message: expect.stringMatching(
      /pool" is on memory, which cannot hold the changes of a session: "unshare" /,
    ),
  });
  expect(readPool(w.host, on.paths)).toBeUndefined();
  expect([...w.volumes]).toEqual([]);
});

it.each([
  [0, 0o775],
  [0, 0o757],
])(
  'a directory of root that a group can write to, also the group root, is one that others can exchange: %d %o',
  (uid, mode) => {
    const w = new World();
    directory(w, '/srv/pools', uid, mode);
    // A process may have the group root without being root: members in group(5), and what gave up only its user ID.
    expect(w.host.lstat('/srv/pools')?.gid).toBe(0);
    expect(() => makePoolDirectory(w.host, '/srv/pools/a', STATE)).toThrow(
      /users other than root own "\/srv\/pools"/,
    );
  },
);

describe('an existing pool that others can enter', () => {
  /** A pool as it was made in a directory of alice, and a state directory on a file system of its own. */
  function openWorld(pool: Pool): World {
    const w = new World();
    const on = w.machine();
    makeDirectories(w.host, on.paths);
    w.makeDirs(pool.path);
    writePool(w.host, on.paths, pool);
    if (pool.image === undefined) fill(w, pool.path);
    else w.put(pool.image, '');
    w.chown(STATE, 0, 0o755);
    return w;
  }
  function fill(w: World, path: string): void {
    w.put(`${path}/.mayfly-pool`, '');
    for (const name of ['generations', 'sessions']) directory(w, `${path}/${name}`, 1001, 0o755);
    w.chown(path, 1001, 0o755);
  }

  it.each([
    ['recover', (w: World) => recover(w.machine())],
    ['mountPool', (w: World, pool: Pool) => mountPool(w.machine(), pool)],
  ] as const)('is closed by %s', async (_, act) => {
    const pool = { backend: 'overlay', path: '/disk/pool' } as const;
    const w = openWorld(pool);
    await act(w, pool);
    for (const path of [STATE, '/disk/pool', '/disk/pool/generations', '/disk/pool/sessions'])
      expect(access(w, path)).toBe('0 0 700');
  });

  it('is closed where its image is mounted, and again if somebody opens it', async () => {
    const pool = { backend: 'btrfs', path: '/disk/pool', image: `${STATE}/pool.img` } as const;
    const w = openWorld(pool);
    await mountPool(w.machine(), pool);
    fill(w, pool.path);
    await mountPool(w.machine(), pool);
    expect(access(w, pool.path)).toBe('0 0 700');
  });

  it.each(['/disk/pool', '/disk/pool/sessions', '/disk'])(
    'is a problem for doctor if %s is open',
    async path => {
      const pool = { backend: 'overlay', path: '/disk/pool' } as const;
      const w = openWorld(pool);
      await mountPool(w.machine(), pool);
      const on = { ...w.machine(), host: readOnly(w.host), file: '/c', invalid: undefined };
      const owner = poolChecks.filter(c => c.title === 'owner');
      expect(await runChecks(on, owner)).toMatchObject([{ applies: true, findings: [] }]);
      w.chown(path, 1001, 0o755);
      const fixes = [`chown root: ${path}`, ...(path === '/disk' ? [] : [`chmod go= ${path}`])];
      const [result] = await runChecks(on, owner);
      expect(result?.findings.map(f => [f.level, f.fix])).toEqual(fixes.map(fix => ['problem', fix]));
    },
  );

  it('is reported if it cannot be closed', async () => {
    const pool = { backend: 'overlay', path: '/disk/pool' } as const;
    const w = openWorld(pool);
    w.host.own = path => {
      throw new Error(`"${path}" cannot be made accessible to root only`);
    };
    const on = w.machine();
    expect((await recover({ ...on, host: { ...on.host, own: w.host.own } })).stuck).toContain(
      `the pool: "${STATE}" cannot be made accessible to root only`,
    );
  });

  it('is left alone if it is not a pool, such as a mount point whose disk is missing', async () => {
    const pool = { backend: 'overlay', path: '/disk/pool' } as const;
    const w = openWorld(pool);
    w.host.unlink('/disk/pool/.mayfly-pool');
    await mountPool(w.machine(), pool);
    expect(access(w, '/disk/pool')).toBe('1001 1001 755');
  });
});
