/** The contract over LVM's two backends, one with each file system. */

import { contract } from '../../volume/contract.ts';
import { lvmBench } from './bench.ts';

contract('lvm-thin with ext4', lvmBench('lvm-thin', 'ext4'));
contract('lvm with xfs', lvmBench('lvm', 'xfs'));
