/** Faults of thin pools, classic stores and disks. */
import { inside } from './suite.ts';

await inside('faults', { arguments: ['--project', 'inside', 'faults'], disks: ['6G', '2G'] });
