/** Logins and logouts on LVM, against a shell's commands; test/artefacts/lvm-speed.log has the figures. */
import { inside } from './suite.ts';

await inside('speed', { arguments: ['--project', 'inside', 'speed'], disks: ['12G'] });
