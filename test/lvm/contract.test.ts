/** The contract of all backends where there is a device mapper. */
import { inside } from './suite.ts';

await inside('the contract', { arguments: ['--project', 'inside', 'contract'] });
