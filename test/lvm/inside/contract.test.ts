/** The contract over LVM's two backends, each with one file system; in a campaign with both. */
import { afterEach } from 'vitest';
import { contract } from '../../volume/contract.ts';
import { LONG } from '../campaign.ts';
import { leaveAll, lvmBench } from './bench.ts';

// What a case that failed has left mounted would keep its volumes from being removed.
afterEach(leaveAll);

contract('lvm-thin with ext4', lvmBench('lvm-thin', 'ext4'));
contract('lvm with xfs', lvmBench('lvm', 'xfs'));
if (LONG) {
  contract('lvm-thin with xfs', lvmBench('lvm-thin', 'xfs'));
  contract('lvm with ext4', lvmBench('lvm', 'ext4'));
}
