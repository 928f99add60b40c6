/** Opens a backend by its kind. Throws `corrupt` for a kind that does not exist, as a corrupt record may name. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import type { BackendKind, VolumeBackend } from './backend.ts';
import { btrfsBackend } from './btrfs.ts';
import { lvmOnUse } from './lvm/on-use.ts';
import { overlayBackend } from './overlay.ts';

/**
 * Opens a backend. `memory` is a file in which it may cache facts that are expensive to read; the file may be lost.
 */
export function openBackend(kind: BackendKind, host: Host, memory?: string): VolumeBackend {
  switch (kind) {
    case 'overlay':
      return overlayBackend(host);
    case 'btrfs':
      return btrfsBackend(host, memory);
    case 'lvm-thin':
    case 'lvm':
      return lvmOnUse(kind, host);
    default:
      throw new MayflyError('corrupt', `there is no backend "${String(kind satisfies never)}"`);
  }
}
