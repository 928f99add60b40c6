/** The login cycle on LVM's two backends, and what holds a session there by its mount namespace. */
import { LONG } from '../campaign.ts';
import { buildPrograms } from '../system/namespace-lab.ts';
import { inside } from './suite.ts';

const run = (backend: string) => ({
  arguments: ['--project', 'system', 'login.test', 'namespace-holders.test'],
  env: { MAYFLY_TEST_BACKENDS: backend, MAYFLY_TEST_BUILT: '/exchange' },
  disks: ['12G'],
  prepare: buildPrograms,
});
/** What the volume has a part in. The rest is the same for both. */
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

await inside('logins on lvm-thin', run('lvm-thin'));
await inside('logins on lvm', { ...run('lvm'), ...(LONG ? {} : { only: VOLUME }) });
