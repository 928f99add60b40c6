/** Updates on LVM: one at a time, by hand, cut short and refused. What needs a mirror on the network is not here. */
import { LONG } from '../campaign.ts';
import { inside, ONE_BACKEND } from './suite.ts';

const run = (backend: string) => ({
  arguments: ['--project', 'system', 'update-edit', 'update-broken'],
  env: { MAYFLY_TEST_BACKENDS: backend },
  disks: ['16G'],
});
/** Changes by hand go the way of an update: the system tests do for them, which take a tenth of the time. */
const PART = 'one update at a time|refused on';

for (const backend of ONE_BACKEND)
  await inside(`updates on ${backend}`, { ...run(backend), ...(LONG ? {} : { only: PART }), seeded: true });
