/** Creates the pool of `init` on LVM: selects the volume group and the sizes. */
import { MayflyError } from '../errors.ts';
import type { Host } from '../linux/host.ts';
import { bytesOf, formatBytes, parseSize } from '../size.ts';
import type { Machine } from '../state/machine.ts';
import { writePool } from '../state/pool.ts';
import type { Pool, PoolSizes } from '../volume/backend.ts';
import { fits, parsePoolPath } from '../volume/lvm/names.ts';
import { describeGrowth } from '../volume/lvm/pool.ts';
import type { Progress } from './source.ts';

/** Options of the command line; what is undefined comes from the configuration. */
export interface LvmChoice {
  /** Name of the volume group. */
  readonly group?: string;
  /** An empty device on which to create the group. */
  readonly device?: string;
  /** Size of each volume's file system. */
  readonly size?: string;
}

type LvmKind = 'lvm-thin' | 'lvm';

/** Bytes; a smaller thin pool cannot hold a system. */
const SMALLEST_POOL = 512 * 2 ** 20;

/** Sizes of the pool, of each volume and of a session's store, as text such as "16G" or "20%". */
export function sizesOf(on: Machine, choice: LvmChoice = {}): PoolSizes & { readonly cow: string } {
  const { pool_size, volume_size, cow_size } = on.config.lvm;
  return { pool: pool_size, volume: choice.size ?? volume_size, cow: cow_size };
}

/** What does not fit into `free` bytes, as text; undefined if everything fits. Pure. */
export function whyTooLarge(
  kind: LvmKind,
  sizes: PoolSizes & { cow: string },
  free: number,
): string | undefined {
  const volume = parseSize(sizes.volume);
  if (kind === 'lvm-thin') {
    const pool = bytesOf(sizes.pool, free);
    if (pool > free) return `a thin pool of ${formatBytes(pool)}`;
    return pool < SMALLEST_POOL ? `a thin pool of at least ${formatBytes(SMALLEST_POOL)}` : undefined;
  }
  // Classic volumes are full copies: master, the working copy of an update, a new generation and the old one.
  const need = 4 * volume + bytesOf(sizes.cow, volume);
  return need > free
    ? `${formatBytes(need)} (four volumes of ${formatBytes(volume)}, and one session)`
    : undefined;
}

/** The volume group from the command line or the configuration. Throws `usage` if neither names one. */
export function volumeGroupOf({ config }: Machine, choice: LvmChoice): string {
  const group = choice.group ?? config.lvm.group;
  if (group === '') throw new MayflyError('usage', 'name the volume group with --vg, or as "lvm.group"');
  return group;
}

/**
 * Opens or creates the pool in the group and records it. Throws `usage` if the group does not exist or names are too
 * long, `unsafe` if the device is not empty, and `full` if the group has too little free space.
 */
export async function openLvmPool(
  on: Machine,
  kind: LvmKind,
  choice: LvmChoice,
  say: Progress,
): Promise<Pool> {
  const { host, paths, config } = on;
  const group = volumeGroupOf(on, choice);
  const pool: Pool = { backend: kind, path: `/dev/${group}/${config.lvm.name}`, fs: config.lvm.fs };
  if (!fits(parsePoolPath(pool.path)))
    throw new MayflyError(
      'usage',
      `"${group}" and "${config.lvm.name}" together are too long for device names`,
    );
  await host.run({ file: `mkfs.${config.lvm.fs}`, args: ['-V'], effect: 'read', okCodes: [0, 1] });
  if (choice.device !== undefined) await makeGroup(host, group, choice.device, say);
  const free = await freeIn(host, group);
  const sizes = sizesOf(on, choice);
  const large = whyTooLarge(kind, sizes, free);
  if (large !== undefined && !(await poolExists(host, pool.path))) {
    const what = `the volume group "${group}" has ${formatBytes(free)} free, which is not enough for ${large}`;
    throw new MayflyError('full', what, { pool: pool.path, free });
  }
  await on.backend(kind).prepare(pool.path, sizes);
  writePool(host, paths, pool);
  if (kind === 'lvm-thin') say(await describeGrowth(host));
  return pool;
}

/** Whether an earlier attempt created the thin pool, which then already uses the space. */
async function poolExists(host: Host, path: string): Promise<boolean> {
  const { group, name } = parsePoolPath(path);
  const args = [
    '--noheadings',
    '-o',
    'lv_name',
    '-S',
    `lv_name="${name}" && segtype="thin-pool"`,
    '--',
    group,
  ];
  return (await host.run({ file: 'lvs', args, effect: 'read' })).stdout.trim() !== '';
}

async function freeIn(host: Host, group: string): Promise<number> {
  const args = ['--noheadings', '--units', 'b', '--nosuffix', '-o', 'vg_free', '--', group];
  const out = await host.run({ file: 'vgs', args, effect: 'read', okCodes: [0, 5] });
  if (out.code === 0) return Number(out.stdout.trim());
  throw new MayflyError(
    'usage',
    `there is no volume group "${group}"; --device creates one on an empty device`,
  );
}

/** Creates the group on an empty device. Where LVM would ask before it wipes a signature, this throws `unsafe`. */
async function makeGroup(host: Host, group: string, device: string, say: Progress): Promise<void> {
  const args = ['--noheadings', '-o', 'vg_name', '-S', `pv_name="${device}"`];
  const existing = (await host.run({ file: 'pvs', args, effect: 'read' })).stdout.trim();
  if (existing === group) return;
  const found = await host.run({
    file: 'wipefs',
    args: ['--noheadings', '--output', 'TYPE', '--', device],
    effect: 'read',
  });
  const type = found.stdout.trim().split('\n')[0];
  if (type) throw new MayflyError('unsafe', `"${device}" is not empty: it holds ${type}`, { path: device });
  say(`creating the volume group ${group} on ${device}`);
  await host.run({ file: 'vgcreate', args: ['-q', '--', group, device], effect: 'write' });
}
