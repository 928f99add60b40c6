/** The contract of all backends where there is a device mapper; overlay proves that the machine is one. */
import { inside } from './suite.ts';

await inside('the contract', { arguments: ['--project', 'inside', 'contract'] });
