/** Faults of thin pools, classic stores and disks. */
import { inside } from './suite.ts';

await inside('faults', { arguments: ['--project', 'inside', 'faults', 'metadata'], disks: ['12G', '2G'] });
