/** The seals of generations on LVM: a state directory that is lost, or of another day; and random damage. */
import { LONG } from '../campaign.ts';
import { inside, ONE_BACKEND } from './suite.ts';

for (const backend of ONE_BACKEND)
  await inside(`seals on ${backend}`, {
    arguments: ['--project', 'system', 'test/system/seals.test.ts', 'test/system/damage.test.ts'],
    env: { MAYFLY_TEST_BACKENDS: backend, ...(LONG ? {} : { MAYFLY_DAMAGE: '2' }) },
    seeded: true,
    disks: ['16G'],
    only: `over ${backend} `,
  });
