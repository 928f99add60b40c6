/** The login cycle on LVM's two backends, and what holds a session there by its mount namespace. */
import { buildPrograms } from '../system/namespace-lab.ts';
import { inside } from './suite.ts';

await inside('logins', {
  arguments: ['--project', 'system', 'login.test', 'namespace-holders.test'],
  env: { MAYFLY_TEST_BACKENDS: 'lvm-thin,lvm', MAYFLY_TEST_BUILT: '/exchange' },
  disks: ['12G'],
  prepare: buildPrograms,
});
