/** Updates on LVM: one at a time, by hand, cut short and refused. What needs a mirror on the network is not here. */
import { LONG } from '../campaign.ts';
import { BACKENDS, inside } from './suite.ts';

const run = (backend: string) => ({
  arguments: ['--project', 'system', 'update-edit', 'update-broken'],
  env: { MAYFLY_TEST_BACKENDS: backend },
  disks: ['16G'],
});
/**
 * Changes by hand go the way of an update: the system tests do for them, which take a tenth of the time. So does one
 * backend for the lock, which knows nothing of volumes; kills.test.ts ends updates on both.
 */
const partOf = (backend: string): string =>
  backend === 'lvm-thin' ? 'one update at a time|refused on' : 'refused on';

for (const backend of BACKENDS)
  await inside(`updates on ${backend}`, { ...run(backend), ...(LONG ? {} : { only: partOf(backend) }) });
