/** The contract of logs, over both of them. */
import { logContract } from './log.contract.ts';

logContract('lean');
logContract('winston');
