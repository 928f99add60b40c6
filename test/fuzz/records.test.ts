/**
 * Records that a bad disk, a power failure or a hand has damaged. Whatever is in them, each command ends with a result
 * or an error of Mayfly's, and nothing goes that the damaged record does not stand for.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { recover } from '../../src/service/recover.ts';
import { login, logout, stop } from '../../src/session/session.ts';
import { readGeneration, writeGeneration, writeProbation } from '../../src/state/generations.ts';
import { readPool } from '../../src/state/pool.ts';
import { readSession, readSessions, type Session, writeSession } from '../../src/state/sessions.ts';
import { readHistory, readRunning, writeHistory } from '../../src/state/update-history.ts';
import { readIntent, writeIntent } from '../../src/update/adopt.ts';
import { destroy } from '../../src/update/destroy.ts';
import { gatherHealth, healthLine } from '../../src/update/health.ts';
import { prune, retentionPlan } from '../../src/update/retention.ts';
import type { Volume } from '../../src/volume/backend.ts';
import { cases } from '../campaign.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const STATE = '/var/lib/mayfly';
const POOL = `${STATE}/pool`;
/** Of the host and of other programs. */
const OTHERS = ['/etc/passwd', '/home/alice/thesis', '/srv/pool/generation/1/file', '/var/lib/mayfly.img'];

/**
 * Generation 1 is stable, bob is in it, and so is alice; 2 was kept and may go; 3 is a candidate of an update that
 * died. Beside the pool is one of another Mayfly.
 */
async function world(): Promise<World> {
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', '[update]\nkeep = 1\n');
  const on = w.machine();
  for (const path of OTHERS.slice(1)) {
    w.makeDirs(path.slice(0, path.lastIndexOf('/')));
    w.put(path, 'precious');
  }
  const backend = on.backend('overlay');
  const first = readGeneration(w.host, on.paths, 1);
  if (!first) throw new Error('no generation');
  for (const [number, state] of [
    [2, 'proven'],
    [3, 'candidate'],
  ] as const) {
    const volume: Volume = { backend: 'overlay', pool: POOL, role: 'generation', name: String(number) };
    await backend.fork(first.volume, volume);
    const identity = (await backend.identity(volume)) ?? '';
    writeGeneration(w.host, on.paths, { ...first, number, volume, identity }, state);
  }
  for (const name of ['generation/1', 'session/u1001-00000001', 'master/master'])
    w.volumes.set(`/srv/pool/${name}`, { dev: 900 + name.length, nodes: new Map() });
  await backend.create({ backend: 'overlay', pool: POOL, role: 'master', name: 'master' });
  w.put(`${STATE}/generations/last`, '3\n');
  writeProbation(w.host, on.paths, { number: 1, previous: 2, failures: 1, people: { 1001: 'MAYFLY-FULL' } });
  writeHistory(w.host, on.paths, { lastAttempt: 5000, lastSuccess: 4000, result: 'running', phase: 'check' });
  w.put(
    `${w.machine().paths.runningUpdate}`,
    `{"holder":{"pid":77,"start":"1"},"what":"update","since":1,"phase":"check"}\n`,
  );
  for (const [name, display] of [
    ['bob', ':9'],
    ['alice', ':0'],
  ] as const)
    await login(on, callOf(w, name, display));
  for (const s of readSessions(w.host, on.paths)) w.enter(s.root);
  w.newProcess();
  return w;
}

const PATHS = preparedWorld().machine().paths;

const sessionOf = (w: World, name: string): Session => {
  const s = readSessions(w.host, PATHS).find(found => found.user.name === name);
  if (!s) throw new Error(`${name} has no session`);
  return s;
};

type File =
  | ('session' | 'stable' | 'kept' | 'candidate' | 'last' | 'probation')
  | ('pool' | 'history' | 'running' | 'intent' | 'pointer' | 'own');

/** The files that are damaged; of a person, only alice's. */
const FILES: Readonly<Record<File, (w: World) => string>> = {
  session: (w: World) => `${PATHS.sessions}/${sessionOf(w, 'alice').id}.json`,
  stable: () => `${STATE}/generations/1.json`,
  kept: () => `${STATE}/generations/2.json`,
  candidate: () => `${STATE}/generations/3.candidate`,
  last: () => `${STATE}/generations/last`,
  probation: () => `${STATE}/probation.json`,
  pool: () => `${STATE}/pool.json`,
  history: () => `${STATE}/update.json`,
  running: () => PATHS.runningUpdate,
  intent: () => `${STATE}/adopt`,
  pointer: () => `${STATE}/stable`,
  own: () => '/run/mayfly/users/1001/session',
};

type Damage =
  | { readonly cut: number }
  | { readonly at: number; readonly bit: number }
  | { readonly put: string; readonly at: number }
  | { readonly field: number; readonly value: unknown }
  | { readonly copyOf: File };

/** Every place in a value, as keys. */
function placesIn(value: unknown, above: readonly string[] = []): string[][] {
  if (typeof value !== 'object' || value === null) return [[...above]];
  return [[...above], ...Object.entries(value).flatMap(([key, v]) => placesIn(v, [...above, key]))];
}

function withField(value: unknown, [key, ...rest]: readonly string[], put: unknown): unknown {
  if (key === undefined) return put;
  const copy = Array.isArray(value) ? [...value] : { ...(value as object) };
  const at = copy as Record<string, unknown>;
  at[key] = withField(at[key], rest, put);
  if (at[key] === undefined) delete at[key];
  return copy;
}

function damaged(text: string, d: Damage, copy: (of: File) => string): string {
  if ('copyOf' in d) return copy(d.copyOf);
  if ('cut' in d) return text.slice(0, d.cut % (text.length + 1));
  if ('field' in d) {
    try {
      const value: unknown = JSON.parse(text);
      const places = placesIn(value);
      return `${JSON.stringify(withField(value, places[d.field % places.length] ?? [], d.value)) ?? ''}\n`;
    } catch {
      return String(d.value);
    }
  }
  const at = d.at % (text.length || 1);
  const put = 'put' in d ? d.put : String.fromCharCode(text.charCodeAt(at) ^ (1 << d.bit));
  return text.slice(0, at) + put + text.slice(at + put.length);
}

const file = fc.constantFrom(...(Object.keys(FILES) as File[]), 'session', 'kept', 'stable', 'pool');
const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ cut: fc.nat() }),
  fc.record({ at: fc.nat(), bit: fc.nat({ max: 7 }) }),
  fc.record({ at: fc.nat(), put: fc.string({ unit: 'binary', maxLength: 8 }) }),
  fc.record({ at: fc.nat(), put: fc.nat({ max: 600 }).map(n => '\0'.repeat(n)) }), // ext4 after a power failure
  fc.record({ copyOf: file }),
  fc.record({
    field: fc.nat(),
    value: fc.oneof(
      fc.constantFrom(
        undefined,
        null,
        true,
        0,
        -1,
        1,
        2,
        1e300,
        '',
        '1',
        '2',
        '..',
        '/',
        '/etc',
        'x',
        'master',
      ),
      fc.constantFrom(
        [],
        {},
        [null],
        [0],
        'session',
        'generation',
        'btrfs',
        '/srv/pool',
        '/var/lib/mayfly.img',
      ),
      fc.constantFrom({ pid: 1, start: '1' }, 'u1002-00000001', '/run/mayfly/roots/u1002-00000001', 1002),
    ),
  }),
);

/** What must be there whatever happens to alice's session, to generation 2 and to the candidate. */
function treasures(w: World): Record<string, unknown> {
  const bob = sessionOf(w, 'bob');
  const volumes = [...w.volumes.keys()];
  return {
    bob,
    mounted: w.host.lstat(bob.root)?.dev === bob.devices[0],
    entry: w.host.read(`/etc/schroot/chroot.d/mayfly-${bob.id}`),
    his: w.host.read('/run/mayfly/users/1002/session'),
    volumes: [
      ...volumes.filter(key => key.startsWith('/srv/')),
      ...['generation/1', 'master/master', `session/${bob.id}`].filter(key =>
        volumes.includes(`${POOL}/${key}`),
      ),
    ],
    others: OTHERS.map(path => w.host.read(path)),
    mounts: ['/dev/pts', '/home/net'].map(path => w.host.lstat(path)?.dev !== w.rootDev),
    processes: [...w.processes]
      .filter(([pid, p]) => pid !== w.pid && p.dev !== aliceDevice)
      .map(([pid]) => pid),
  };
}
let aliceDevice = 0;

/** Ends with a result, or with an error that has a code; anything else is a fault of the program. */
async function orRefuses<T>(what: string, act: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof MayflyError && error.code !== 'internal') return undefined;
    throw new Error(`${what}: ${error instanceof Error ? error.stack : error}`);
  }
}

/** What a command told the administrator. */
function said(result: unknown): string[] {
  const { stuck = [], line = '' } = (result ?? {}) as { stuck?: string[]; line?: string };
  return [...stuck, line];
}

/** Words of the JavaScript engine, which tell nobody anything. */
const ENGINE =
  /Cannot read prop|is not a function|is not iterable|\bundefined\b|\[object|Invalid time value|NaN/;

function acts(w: World): Record<string, () => unknown> {
  const on = w.machine();
  const pool = () => readPool(w.host, on.paths);
  return {
    recover: () => recover(on),
    health: async () => healthLine(await gatherHealth(on), w.host.now()),
    status: () => [
      ...[readHistory(w.host, on.paths), readRunning(w.host, on.paths), readIntent(w.host, on.paths)],
      retentionPlan(on).length,
    ],
    prune: async () => {
      const known = pool();
      return known && (await prune(on, known));
    },
    login: () => login(on, callOf(w, 'alice', ':5')),
    logout: () => logout(on, callOf(w, 'alice', ':0'), (s, m) => stop(m, s)),
    destroy: () => destroy(on), // bob is in: it is refused
  };
}
/** Of one record or two. Two records that a hand has made to agree on another's pool are believed. */
const damages = fc
  .array(fc.tuple(file, damage), { minLength: 1, maxLength: 2 })
  .filter(all => all.length === 1 || !JSON.stringify(all).includes('/srv/pool'));
const act = fc.constantFrom('recover', 'health', 'status', 'prune', 'login', 'logout', 'destroy');

describe('a record that was cut, damaged, exchanged or changed by hand', () => {
  it('leads to the end of nothing but what it stands for, and to no error without a code', async () => {
    await fc.assert(
      fc.asyncProperty(damages, fc.array(act, { maxLength: 3 }), async (all, then) => {
        const w = await world();
        aliceDevice = sessionOf(w, 'alice').devices[0] ?? 0;
        if (all.some(([name]) => name === 'intent')) writeIntent(w.host, PATHS, 3, 1);
        const before = treasures(w);
        const alices = FILES.session(w);
        const pathOf = (name: File): string => (name === 'session' ? alices : FILES[name](w));
        const textAt = (path: string): string => w.host.read(path) ?? w.host.readlink(path) ?? '';
        for (const [name, d, path] of all.map(([n, x]) => [n, x, pathOf(n)] as const)) {
          const text = damaged(textAt(path), d, of => textAt(pathOf(of)));
          if (name === 'pointer') w.host.symlink(text, path);
          else w.put(path, text, 0o600);
        }
        w.newProcess();
        const perform = acts(w);
        for (const name of [...then, 'recover', 'recover', 'health', 'status']) {
          const result = await orRefuses(name, perform[name] ?? (() => undefined));
          expect(
            said(result).filter(line => ENGINE.test(line)),
            name,
          ).toEqual([]);
          expect(treasures(w), `after ${name}`).toEqual(before);
        }
        // One more changes nothing but the line for monitoring.
        const settled = w.picture();
        await orRefuses('recover', perform.recover ?? (() => undefined));
        expect(w.picture()).toBe(settled);
      }),
      cases('damaged records', 250),
    );
  });

  it.each([
    ['names the volume of another', { volume: { name: '1' } }],
    ['names a session as its volume', { volume: { role: 'session', name: 'u1001-00000001' } }],
    ['has the number of another', { number: 1 }],
  ])('of a generation is corrupt if it %s, and that volume stays', async (_what, wrong) => {
    const w = await world();
    const on = w.machine();
    const g = readGeneration(w.host, PATHS, 2);
    if (!g) throw new Error('no generation');
    const { volume = {}, ...rest } = wrong as { volume?: Partial<Volume>; number?: number };
    const text = JSON.stringify({ ...g, ...rest, volume: { ...g.volume, ...volume } });
    w.put(FILES.kept(w), text);
    const before = [...w.volumes.keys()];
    expect(() => readGeneration(w.host, PATHS, 2)).toThrow(/generations\/2.json" is corrupt/);
    expect(await prune(on, { backend: 'overlay', path: POOL })).toEqual([]);
    expect([...w.volumes.keys()]).toEqual(before);
  });

  it('of the pool is corrupt if it names an image that is not the pool’s', async () => {
    const w = await world();
    const pool = readPool(w.host, PATHS);
    w.put(FILES.pool(w), JSON.stringify({ ...pool, image: '/var/lib/mayfly.img' }));
    expect(() => readPool(w.host, PATHS)).toThrow(/pool.json" is corrupt/);
  });

  it('of the pool does not count if no generation is in that pool, and nothing goes there', async () => {
    const w = await world();
    w.put(FILES.pool(w), JSON.stringify({ backend: 'overlay', path: '/srv/pool' }));
    const before = treasures(w);
    const { stuck } = await recover(w.machine());
    expect(stuck[0]).toMatch(/names the pool "\/srv\/pool", but the generations are in/);
    expect(treasures(w)).toEqual(before);
  });

  it('of a session is no record if it is of another person than its ID', async () => {
    const w = await world();
    const s = sessionOf(w, 'alice');
    w.put(FILES.session(w), JSON.stringify({ ...s, user: { ...s.user, uid: 1002 } }));
    expect(readSession(w.host, PATHS, s.id)).toBeUndefined();
  });

  it('of a session is no record, or has all that its end needs', async () => {
    const w = await world();
    const { id } = sessionOf(w, 'alice');
    const text = w.host.read(FILES.session(w)) ?? '';
    fc.assert(
      fc.property(damage, d => {
        const path = `${PATHS.sessions}/${id}.json`;
        w.put(
          path,
          damaged(text, d, of => (of === 'session' ? text : (w.host.read(FILES[of](w)) ?? ''))),
        );
        const s = readSession(w.host, PATHS, id);
        if (s === undefined) return;
        expect([s.id, s.volume.name, s.volume.role, s.root]).toEqual([
          id,
          id,
          'session',
          `/run/mayfly/roots/${id}`,
        ]);
        expect(s.user.uid).toBe(1001);
        writeSession(w.host, PATHS, s);
        expect(readSession(w.host, PATHS, id)).toEqual(s);
      }),
      cases('damaged records of a session', 250),
    );
  });
});
