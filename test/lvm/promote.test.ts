/** People log in and out while generations are promoted, rolled back and collected, all in one volume group. */
import { inside, ONE_BACKEND } from './suite.ts';

/** A rollback comes after every fourth promotion. On classic volumes a promotion is two copies of a tree. */
const rooms = {
  'lvm-thin': { people: '3', promotions: '4' },
  lvm: { people: '2', promotions: '2' },
} as const;

for (const backend of ONE_BACKEND) {
  const { people, promotions } = rooms[backend as keyof typeof rooms];
  const env = {
    MAYFLY_CROWD: people,
    MAYFLY_PROMOTIONS: promotions,
    MAYFLY_TEST_BACKENDS: backend,
  };
  await inside(`a room on ${backend}`, {
    env,
    disks: ['16G'],
    arguments: ['--project', 'system', 'promote'],
    seeded: true,
  });
}
