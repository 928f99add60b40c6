/** The contract over LVM's two backends, each with one file system; in a campaign with both. */
import { afterEach } from 'vitest';
import { LONG } from '../../campaign.ts';
import { contract } from '../../volume/contract.ts';
import { leaveAll, lvmBench } from './bench.ts';

// What a case that failed has left mounted would keep its volumes from being removed.
afterEach(leaveAll);

const THIN = { spares: 'no spares', discards: 'removal takes no time' };
/** A crash during a copy takes a minute here; test/lvm/kills.test.ts kills those. */
const CLASSIC = { ...THIN, deaths: 'crashes are in test/lvm/kills.test.ts' };

contract('lvm-thin with ext4', lvmBench('lvm-thin', 'ext4'), THIN);
contract('lvm with xfs', lvmBench('lvm', 'xfs'), CLASSIC);
if (LONG) {
  contract('lvm-thin with xfs', lvmBench('lvm-thin', 'xfs'), THIN);
  contract('lvm with ext4', lvmBench('lvm', 'ext4'), CLASSIC);
}
