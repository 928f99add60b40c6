/** Trees that are mounted to be read, and cleaning up after a crash meanwhile. */
import { expect, it } from 'vitest';
import { readPool } from '../../src/state/pool.ts';
import { unmountLeftovers } from '../../src/update/volume-tree.ts';
import { preparedWorld } from '../world.ts';

it.each([
  ['work', 'work'],
  ['master', 'master'],
  ['generation', '1'],
  ['generation', '7'], // which has no record any more
])('a %s %s that a crash left mounted is unmounted, and its volume is released', async (role, name) => {
  const w = preparedWorld();
  const on = w.machine();
  const pool = readPool(w.host, on.paths);
  if (!pool) throw new Error('there is no pool');
  const place = `${on.paths.roots}/tree-${role}${role === 'generation' ? `-${name}` : ''}`;
  w.makeDirs(place);
  const released: string[] = [];
  const backend: typeof on.backend = kind => ({
    ...on.backend(kind),
    detachTree: async v => void released.push(`${v.role} ${v.name}`),
  });
  await unmountLeftovers({ ...on, backend }, pool);
  expect(w.host.lstat(place)).toBeUndefined();
  expect(released).toEqual([`${role} ${name}`]);
});
