/** SIGKILL at random moments of logins, logouts and updates on LVM's two backends. */
import { inside } from './suite.ts';

const env = { MAYFLY_TEST_KILLS: process.env.MAYFLY_TEST_KILLS ?? '6' };
const disks = ['12G'];

for (const backend of (process.env.MAYFLY_TEST_BACKENDS ?? 'lvm-thin,lvm').split(',')) {
  const run = { env: { ...env, MAYFLY_TEST_BACKENDS: backend }, disks };
  const arguments_ = ['--project', 'system', 'storm', 'update-kill', '-t', 'SIGKILL'];
  await inside(`kills on ${backend}`, { ...run, arguments: arguments_ });
}
