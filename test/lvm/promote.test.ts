/** People log in and out while generations are promoted, rolled back and collected, all in one volume group. */
import { inside } from './suite.ts';

const sizes = { MAYFLY_TEST_CLIENTS: '4', MAYFLY_TEST_PROMOTIONS: '4' };

for (const backend of (process.env.MAYFLY_TEST_BACKENDS ?? 'lvm-thin,lvm').split(',')) {
  const run = { env: { ...sizes, MAYFLY_TEST_BACKENDS: backend }, disks: ['16G'] };
  await inside(`a room on ${backend}`, { ...run, arguments: ['--project', 'system', 'promote'] });
}
