/**
 * Reports of lvs(8). Pure. Commands address a volume that was found in a report by its UUID, because names can be
 * changed meanwhile.
 */
import { MayflyError } from '../../errors.ts';
import { STEADY } from './options.ts';

/** One logical volume of a report, which includes LVM's own hidden volumes. */
export interface Row {
  /** Without the brackets of a hidden volume. */
  readonly name: string;
  readonly uuid: string;
  readonly tags: readonly string[];
  /** The field lv_attr of lvs(8): the type of volume first, then permissions and so on. */
  readonly attr: string;
  readonly origin: string;
  /** The thin pool it is in. */
  readonly pool: string;
  /** Bytes. */
  readonly size: number;
  readonly groupSize: number;
  readonly groupFree: number;
  readonly groupUuid: string;
  /** Number of missing disks of the group. */
  readonly groupMissing: number;
  /** Percent used, like `metadata`; NaN if the volume is not active or has no such value. */
  readonly data: number;
  readonly metadata: number;
  readonly active: boolean;
  readonly open: boolean;
  readonly suspended: boolean;
  readonly health: string;
  readonly needsCheck: boolean;
  readonly overflowed: boolean;
  /** Device numbers; -1 if the volume is not active. */
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

/** Parses the output of lvs(8) with {@link reportArguments}. Throws `corrupt` if it is not such a report. */
export function parseReport(text: string): Row[] {
  let rows: Readonly<Record<string, string>>[];
  try {
    rows = JSON.parse(text).report[0].lv;
  } catch {
    throw new MayflyError('corrupt', 'unexpected output from "lvs"');
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
