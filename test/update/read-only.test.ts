/** A pool whose file system has become read-only, and the records of sessions that end meanwhile. */
import { describe, expect, it } from 'vitest';
import { recover } from '../../src/service/recover.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { readOnlyProblem, staysMounted } from '../../src/update/read-only.ts';
import { callOf, preparedWorld, World } from '../world.ts';

const POOL = { backend: 'btrfs', path: '/var/lib/mayfly/pool', image: '/var/lib/mayfly/pool.img' } as const;

/** A host on which this is mounted. */
function hostWith(lines: readonly string[], w = new World()) {
  w.mountEmpty(POOL.path);
  const read = (path: string) =>
    path === '/proc/self/mountinfo' ? `${lines.join('\n')}\n` : w.host.read(path);
  return { w, host: { ...w.host, read } };
}

const ROOT = '20 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw';
const mount = (options: string, path: string = POOL.path): string =>
  `30 20 0:50 / ${path} rw,noatime - btrfs /dev/loop0 ${options}`;
const SESSION = '/run/mayfly/roots/u1001-0a0b0c0d';

describe('a pool that', () => {
  it.each([
    ['can be written', [ROOT, mount('rw,space_cache')], POOL, undefined, true, false],
    ['has become read-only', [ROOT, mount('ro,space_cache')], POOL, 'mayfly recover', false, true],
    [
      'has become read-only, with sessions in it',
      [ROOT, mount('ro'), mount('ro', SESSION)],
      POOL,
      'end sessions ("mayfly sessions")',
      true,
      false,
    ],
    [
      'can be written, on a root that can not',
      [ROOT.replace(/rw$/, 'ro'), mount('rw')],
      POOL,
      undefined,
      true,
      false,
    ],
    [
      'is in no image, and has become read-only with the root',
      [ROOT.replace(/rw$/, 'ro')],
      { ...POOL, image: undefined },
      'dmesg; umount /; mount / && mayfly recover',
      true,
      false,
    ],
  ] as const)('%s', async (_what, lines, { path, image }, fix, stays, unmounts) => {
    const { w, host } = hostWith(lines);
    const pool = { backend: 'btrfs', path, ...(image ? { image } : {}) } as const;
    expect(readOnlyProblem(host, pool)?.fix).toBe(fix);
    expect(await staysMounted(host, pool)).toBe(stays);
    expect(w.ran.filter(c => c.startsWith('umount')).length).toBe(Number(unmounts));
  });
  it('is not mounted does not stay so', async () => {
    expect(await staysMounted(new World().host, POOL)).toBe(false);
  });
});

it('a teardown that gets stuck where no record can be written is completed by recover', async () => {
  const w = preparedWorld();
  await login(w.machine(), callOf(w, 'alice', ':0'));
  w.newProcess();
  const on = w.machine();
  const write = (): never => {
    throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
  };
  w.failing.add('perl'); // which unmounts
  await expect(
    logout({ ...on, host: { ...on.host, write } }, callOf(w, 'alice', ':0'), (s, here) => stop(here, s)),
  ).rejects.toThrow();
  expect(readSessions(w.host, on.paths).map(s => s.state)).toEqual(['ending']);
  w.failing.clear();
  w.newProcess();
  expect((await recover(w.machine())).ended).toHaveLength(1);
  expect(readSessions(w.host, on.paths)).toEqual([]);
});
