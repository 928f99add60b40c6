/** The contract over LVM's two backends. */

import { contract } from '../../volume.contract.ts';
import { lvmBench } from './bench.ts';

contract('lvm-thin with ext4', lvmBench('lvm-thin', 'ext4'));
contract('lvm-thin with xfs', lvmBench('lvm-thin', 'xfs'));
contract('lvm with ext4', lvmBench('lvm', 'ext4'));
contract('lvm with xfs', lvmBench('lvm', 'xfs'));
