/** The seals of generations on LVM: a state directory that is lost, or of another day. */
import { LONG } from '../campaign.ts';
import { BACKENDS, inside } from './suite.ts';

/** The tags are the same on both. */
for (const backend of LONG ? BACKENDS : BACKENDS.slice(0, 1))
  await inside(`seals on ${backend}`, {
    arguments: ['--project', 'system', 'test/system/seals.test.ts'],
    env: { MAYFLY_TEST_BACKENDS: backend },
    disks: ['16G'],
    only: `over ${backend} `,
  });
