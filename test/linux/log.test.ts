/** The contract of both logs. */
import { logContract } from './log.contract.ts';

logContract('lean');
logContract('winston');
