/**
 * What LVM says, and how our volumes are named in it; nothing here has an effect. A volume is ours by its tag, which
 * is written in the same commit of LVM's metadata as the volume itself: names can be taken by others and changed by
 * anybody, and commands address what was found by its UUID. Names only say to people what it is.
 */
import { MayflyError } from '../../errors.ts';
import { STEADY } from './options.ts';

/** One logical volume, hidden ones of LVM's own among them. */
export interface Row {
  /** Without the brackets of a hidden one. */
  readonly name: string;
  readonly uuid: string;
  readonly tags: readonly string[];
  /** lv_attr(7): the kind of volume first, then permissions and so on. */
  readonly attr: string;
  readonly origin: string;
  /** The thin pool it is in. */
  readonly pool: string;
  /** Bytes. */
  readonly size: number;
  readonly groupSize: number;
  readonly groupFree: number;
  readonly groupUuid: string;
  /** Disks of the group that are not there. */
  readonly groupMissing: number;
  /** Percent; NaN where it is not active, or has no such thing. */
  readonly data: number;
  readonly metadata: number;
  readonly active: boolean;
  readonly open: boolean;
  readonly suspended: boolean;
  readonly health: string;
  readonly needsCheck: boolean;
  readonly overflowed: boolean;
  /** Device numbers; -1 where it is not active. */
  readonly major: number;
  readonly minor: number;
}

/** Fields of lvs(8), as {@link parseReport} reads them. */
const FIELDS = [
  'lv_name,lv_uuid,lv_tags,lv_attr,origin,pool_lv,lv_size,vg_size,vg_free,vg_uuid,data_percent,metadata_percent',
  'lv_active,lv_device_open,lv_suspended,lv_health_status,lv_check_needed,lv_snapshot_invalid',
  'lv_kernel_major,lv_kernel_minor,vg_missing_pv_count',
].join(',');

/** Arguments of lvs(8) for every volume of a group. */
export function reportArguments(group: string): string[] {
  const form = ['--reportformat', 'json', '--units', 'b', '--nosuffix', '-o', FIELDS];
  return ['-a', ...STEADY, ...form, '--', group];
}

/** What lvs(8) printed. */
export function parseReport(text: string): Row[] {
  let rows: Readonly<Record<string, string>>[];
  try {
    rows = JSON.parse(text).report[0].lv;
  } catch {
    throw new MayflyError('corrupt', 'the answer of "lvs" is not what was asked for');
  }
  const percent = (value: string | undefined): number => (value ? Number(value) : Number.NaN);
  return rows.map(r => ({
    name: (r.lv_name ?? '').replace(/^\[(.*)\]$/, '$1'),
    uuid: r.lv_uuid ?? '',
    tags: (r.lv_tags ?? '').split(',').filter(Boolean),
    attr: r.lv_attr ?? '',
    origin: (r.origin ?? '').replace(/^\[(.*)\]$/, '$1'),
    pool: (r.pool_lv ?? '').replace(/^\[(.*)\]$/, '$1'),
    size: Number(r.lv_size),
    groupSize: Number(r.vg_size),
    groupFree: Number(r.vg_free),
    groupUuid: r.vg_uuid ?? '',
    groupMissing: Number(r.vg_missing_pv_count ?? 0),
    data: percent(r.data_percent),
    metadata: percent(r.metadata_percent),
    active: r.lv_active === 'active',
    open: r.lv_device_open === 'open',
    suspended: r.lv_suspended === 'suspended',
    health: r.lv_health_status ?? '',
    needsCheck: r.lv_check_needed === 'check needed',
    overflowed: r.lv_snapshot_invalid === 'snapshot invalid' || /^.{4}[IS]/.test(r.lv_attr ?? ''),
    major: Number(r.lv_kernel_major ?? -1),
    minor: Number(r.lv_kernel_minor ?? -1),
  }));
}
