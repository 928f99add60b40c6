/** The contract of both logs, and the entries for the journal. */
import { expect, it } from 'vitest';
import { journalEntry } from '../../src/linux/log.ts';
import { logContract } from './log.contract.ts';

logContract('lean');
logContract('winston');

it('keeps a newline in a message from starting another journal field', () => {
  expect(journalEntry('err', 'a\nPRIORITY=0', { user: 'x\ny' })).toBe(
    'MESSAGE=a PRIORITY=0\nPRIORITY=3\nSYSLOG_IDENTIFIER=mayfly\nMAYFLY_USER=x y\n',
  );
});
