/** SIGKILL at random moments of logins, logouts and updates on LVM's two backends. */
import { count } from '../campaign.ts';
import { inside, ONE_BACKEND } from './suite.ts';

const KILLS = count('KILLS', 2);

for (const backend of ONE_BACKEND)
  await inside(`kills on ${backend}`, {
    arguments: ['--project', 'system', 'storm', 'update-kill'],
    only: 'SIGKILL',
    env: { MAYFLY_TEST_BACKENDS: backend, MAYFLY_KILLS: String(KILLS) },
    disks: ['12G'],
    seeded: true,
    // Some ten seconds each on an idle machine, of three kinds.
    seconds: 3600 + KILLS * 3 * 120,
  });
