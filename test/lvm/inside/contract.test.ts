/** The contract over LVM's two backends. */
import { afterEach } from 'vitest';
import type { FileSystem } from '../../../src/volume/backend.ts';
import { contract } from '../../volume.contract.ts';
import { leaveAll, lvmBench } from './bench.ts';

const given = (process.env.MAYFLY_FILE_SYSTEMS ?? '').split(',').filter(Boolean) as FileSystem[];
const usual = { 'lvm-thin': 'ext4', lvm: 'xfs' } as const;

// What a case that failed has left mounted would keep its volumes from being removed.
afterEach(leaveAll);

for (const kind of ['lvm-thin', 'lvm'] as const)
  for (const fileSystem of given.length > 0 ? given : [usual[kind]])
    contract(`${kind} with ${fileSystem}`, lvmBench(kind, fileSystem));
