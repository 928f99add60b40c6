/**
 * The contract of all backends where there is a device mapper: each with one file system, or with all that
 * MAYFLY_FILE_SYSTEMS names.
 */
import { inside } from './suite.ts';

await inside('the contract', { arguments: ['--project', 'inside', 'contract'] });
