/** A machine in memory whose state and pool are of different days. */
import { expect } from 'vitest';
import { end } from '../../src/session/end.ts';
import { login } from '../../src/session/session.ts';
import { generationNumbers, stableNumber } from '../../src/state/generations.ts';
import { parseSeal, type Seal } from '../../src/state/seals.ts';
import { update } from '../../src/update/update.ts';
import { generationOf, masterOf } from '../../src/volume/backend.ts';
import { callOf, type Node, preparedWorld, type World } from '../world.ts';

export const STATE = '/var/lib/mayfly';
export const pool = { backend: 'overlay', path: `${STATE}/pool` } as const;

export const volumeOf = (n: number): string => `${pool.path}/generation/${n}`;
export const hasTree = (w: World, n: number): boolean => w.volumes.has(volumeOf(n));
export const numbersOf = (w: World): number[] => generationNumbers(w.host, w.machine().paths);
export const stableOf = (w: World): number | undefined => stableNumber(w.host, w.machine().paths);
export const sealIn = (w: World, n: number): Seal | undefined => parseSeal(w.seals.get(volumeOf(n)), n);

/** Master equals generation 1; `keep` generations are kept. */
export async function world(keep = 3): Promise<World> {
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', `[check]\nuser = "bob"\n[update]\nkeep = ${keep}\n`);
  await w.backend().fork(generationOf(pool, 1), masterOf(pool));
  return w;
}

/** Makes a generation with `what` in /etc/version; `say` is told of the steps. */
export async function updateOf(
  w: World,
  what: string,
  say: (line: string) => void = () => undefined,
): Promise<void> {
  await update(w.machine(), {
    ...{ what: 'an update', origin: 'test', force: true, say },
    change: async () => {
      const work = w.volumes.get(`${pool.path}/work/work`);
      work?.nodes.set('/etc/version', { kind: 'file', text: what, mode: 0o644, uid: 0, gid: 0, ino: 1 });
      return true;
    },
  });
  w.newProcess();
}

/** What is below the state directory, to be put back later. */
export function stateOf(w: World): [string, Node][] {
  const [root] = w.fileSystems();
  return [...(root?.nodes ?? [])].filter(([path]) => path === STATE || path.startsWith(`${STATE}/`));
}

/** The state directory is lost, or is that of another day; the pool is as it was. */
export function putBack(w: World, state: readonly [string, Node][] = []): void {
  const [root] = w.fileSystems();
  if (!root) throw new Error('no root');
  for (const [path] of stateOf(w)) root.nodes.delete(path);
  for (const [path, node] of state) root.nodes.set(path, node);
  w.reboot();
}

/** Every volume has another identity, as after a copy of all files. */
export function move(w: World): void {
  for (const [key, fs] of w.volumes) w.volumes.set(key, { nodes: new Map(fs.nodes), dev: fs.dev + 1000 });
  w.newProcess();
}

/** Bob logs in, gets this generation, and logs out. */
export async function mustLogIn(w: World, generation: number, when = ''): Promise<void> {
  const s = await login(w.machine(), callOf(w, 'bob', ':7'));
  expect(s?.generation, when).toBe(generation);
  if (s) await end(w.machine(), s.id);
  w.newProcess();
}
