/**
 * The metadata of a btrfs: names, small files and snapshots live in it, and it can be full while df(1) shows much space.
 * Then everything that needs a new entry fails, also a rename. The numbers are in sysfs, so asking for them starts no
 * process.
 */
import type { Host } from '../linux/host.ts';
import type { Usage } from './backend.ts';

const SYSFS = '/sys/fs/btrfs';

/** What the kernel keeps free besides its reserve: it refuses with about so much left, and statfs(2) reckons with it too. */
const KEPT = 4 * 2 ** 20;

/** Percent above which metadata is named as the cause, whatever else is full. */
const AS_GOOD_AS_FULL = 95;

/** The directory in sysfs of the file system at `path`; undefined if it cannot be found. */
function sysfsOf(
  host: Pick<Host, 'read' | 'list' | 'exists' | 'readlink'>,
  path: string,
): string | undefined {
  const all = host.list(SYSFS).filter(name => name !== 'features');
  if (all.length === 1) return `${SYSFS}/${all[0]}`;
  let best = { at: '', device: '' };
  for (const line of (host.read('/proc/self/mountinfo') ?? '').split('\n')) {
    const fields = line.split(' ');
    const at = fields[4] ?? '';
    const isAbove = at === '/' || `${path}/`.startsWith(`${at}/`);
    // The last one of two on the same place hides the other.
    if (isAbove && at.length >= best.at.length) best = { at, device: fields[fields.indexOf('-') + 2] ?? '' };
  }
  const target = host.readlink(best.device) ?? best.device; // /dev/mapper/x is a symlink to ../dm-0
  const device = target.slice(target.lastIndexOf('/') + 1);
  const found = device === '' ? undefined : all.find(id => host.exists(`${SYSFS}/${id}/devices/${device}`));
  return found && `${SYSFS}/${found}`;
}

/**
 * `usage` of the file system at `path`, or of its metadata if that is fuller. What no kind of data has claimed yet can become
 * metadata; the reserve of the kernel can not, with which it deletes when all else is full.
 */
export function withMetadata(
  host: Pick<Host, 'read' | 'list' | 'exists' | 'readlink'>,
  path: string,
  usage: Usage,
): Usage {
  const at = sysfsOf(host, path);
  if (at === undefined) return usage;
  const number = (file: string): number => Number(host.read(`${at}/${file}`) ?? 0);
  const kinds = host.list(`${at}/allocation`);
  // With mixed block groups (mkfs.btrfs --mixed) there is one space for both, which `usage` is about.
  if (!kinds.includes('metadata')) return usage;
  const of = (name: string): number => number(`allocation/metadata/${name}`);
  const size = host.list(`${at}/devices`).reduce((sum, d) => sum + 512 * number(`devices/${d}/size`), 0);
  const claimed = kinds.reduce((sum, kind) => sum + number(`allocation/${kind}/disk_total`), 0);
  const copies = of('total_bytes') === 0 ? 1 : of('disk_total') / of('total_bytes');
  const unclaimed = Math.max(0, size - claimed) / copies;
  const used = of('bytes_used');
  const kept = KEPT + number('allocation/global_rsv_size');
  const left = of('total_bytes') - used - of('bytes_readonly') - kept;
  const free = Math.max(0, left) + unclaimed;
  const percent = used + free === 0 ? 0 : (100 * used) / (used + free);
  // With full metadata, statfs(2) reports no free space at all: the cause is named nevertheless.
  if (percent <= usage.percent && percent <= AS_GOOD_AS_FULL) return usage;
  return { ...usage, percent: Math.max(percent, usage.percent), of: 'metadata' };
}
