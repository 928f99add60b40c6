/** Logins and logouts on LVM, against a shell's commands. Prints figures and asserts none: scripts/campaign lvm-speed. */
import { inside } from './suite.ts';

const output = await inside('speed', { arguments: ['--project', 'inside', 'speed'], disks: ['12G'] });
console.log(output.match(/^\S+: login .*$/gm)?.join('\n'));
