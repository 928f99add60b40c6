/** The login cycle on LVM's two backends. */
import { inside } from './suite.ts';

await inside('logins', {
  arguments: ['--project', 'system', 'login.test'],
  env: { MAYFLY_TEST_BACKENDS: 'lvm-thin,lvm' },
  disks: ['12G'],
});
