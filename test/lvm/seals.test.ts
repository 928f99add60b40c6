/** The seals of generations on LVM: a state directory that is lost, or of another day. */
import { BACKENDS, inside } from './suite.ts';

for (const backend of BACKENDS)
  await inside(`seals on ${backend}`, {
    arguments: ['--project', 'system', 'test/system/seals.test.ts'],
    env: { MAYFLY_TEST_BACKENDS: backend },
    disks: ['16G'],
    only: `over ${backend} `,
  });
