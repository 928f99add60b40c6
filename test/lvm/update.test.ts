/** Updates on LVM: one at a time, by hand, cut short and refused. What needs a mirror on the network is not here. */
import { LONG } from '../campaign.ts';
import { inside } from './suite.ts';

const run = (backend: string) => ({
  arguments: ['--project', 'system', 'update-edit', 'update-broken'],
  env: { MAYFLY_TEST_BACKENDS: backend },
  disks: ['16G'],
});
/** Changes by hand go the way of an update: one backend does for them, as in the system tests. */
const notByHand = LONG ? {} : { only: 'one update at a time|refused on' };

await inside('updates on lvm-thin', run('lvm-thin'));
await inside('updates on lvm', { ...run('lvm'), ...notByHand });
