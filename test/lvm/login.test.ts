/** The login cycle on LVM's two backends, and what holds a session there by its mount namespace. */
import { LONG } from '../campaign.ts';
import { buildPrograms } from '../system/namespace-lab.ts';
import { inside, ONE_BACKEND } from './suite.ts';

/**
 * What the volume has a part in. The rest is the same on all backends, and the system tests do it in a tenth of the time.
 */
const VOLUME = [
  ...[
    'whole system',
    'lets nobody',
    'broken in any way',
    'nothing else',
    'is joined',
    'is fresh',
    'left running',
  ],
  ...['very deep trees', 'planted inside', 'the same name', 'to hold the session'],
].join('|');

const run = (backend: string) => ({
  ...(LONG ? {} : { only: VOLUME }),
  arguments: ['--project', 'system', 'login.test', 'namespace-holders.test'],
  env: { MAYFLY_TEST_BACKENDS: backend, MAYFLY_TEST_BUILT: '/exchange' },
  disks: ['12G'],
  prepare: buildPrograms,
});
for (const backend of ONE_BACKEND) await inside(`logins on ${backend}`, { ...run(backend), seeded: true });
