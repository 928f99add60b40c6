/** Trees that had to be mounted to be read, and what a death leaves of them. */
import { expect, it } from 'vitest';
import { readPool } from '../../src/state/pool.ts';
import { unmountLeftovers } from '../../src/update/volume-tree.ts';
import { preparedWorld } from '../world.ts';

it.each([
  ['work', 'work'],
  ['master', 'master'],
  ['generation', '1'],
])('what a death left mounted of a %s goes, and its volume is let go', async (role, name) => {
  const w = preparedWorld();
  const on = w.machine();
  const pool = readPool(w.host, on.paths);
  if (!pool) throw new Error('there is no pool');
  const place = `${on.paths.roots}/tree-${role}`;
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
