/** The record of the pool: where the volumes are. `init` writes it; from then on it overrides the configuration. */
import { REMEDY } from '../advice.ts';
import { parseJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import type { Pool } from '../volume/backend.ts';
import { isPool } from '../volume/shape.ts';
import type { Paths } from './paths.ts';

/** Path of the embedded pool's image; it need not exist. */
export function imagePath(paths: Paths): string {
  return `${paths.state}/pool.img`;
}

/** The record of the pool; undefined if there is none. Throws `corrupt`. */
export function readPool(host: Host, paths: Paths): Pool | undefined {
  const text = host.read(paths.poolFile);
  // An image is removed with its pool, so a damaged record must not name any other file.
  const isOurs = (pool: Pool): boolean =>
    isPool(pool) && (pool.image === undefined || pool.image === imagePath(paths));
  return text === undefined ? undefined : parseJson<Pool>(paths.poolFile, text, REMEDY.recover, isOurs);
}

export function writePool(host: Host, paths: Paths, pool: Pool): void {
  host.write(paths.poolFile, `${JSON.stringify(pool, null, 2)}\n`, { mode: 0o600, durable: true });
}
