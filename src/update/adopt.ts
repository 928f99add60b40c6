/** The end of an update: its working copy becomes master. A record of it makes sure that a crash only delays that. */
import type { Host } from '../linux/host.ts';
import type { Machine } from '../state/machine.ts';
import type { Paths } from '../state/paths.ts';
import { masterOf, type Pool, workOf } from '../volume/backend.ts';

/**
 * Records that an update is about to promote a generation and to make its working copy master; written before both.
 */
function intentPath(paths: Paths): string {
  return `${paths.state}/adopt`;
}

/** Records, durably, the generation about to be promoted and the one that was stable `before`. */
export function writeIntent(host: Host, paths: Paths, number: number, before: number | undefined): void {
  host.write(intentPath(paths), `${number} ${before ?? 0}\n`, { mode: 0o600, durable: true });
}

export function dropIntent(host: Host, paths: Paths): void {
  host.unlink(intentPath(paths));
}

export function readIntent(
  host: Host,
  paths: Paths,
): { readonly number: number; readonly before: number } | undefined {
  const [number, before] = (host.read(intentPath(paths)) ?? '').trim().split(' ').map(Number);
  return number && before !== undefined ? { number, before } : undefined;
}

/** Makes the working copy master. After a crash it can be repeated, and continues where it was. */
export async function adopt(on: Machine, pool: Pool): Promise<void> {
  const { host, paths } = on;
  const backend = on.backend(pool.backend);
  const work = workOf(pool);
  if ((await backend.identity(work)) !== undefined) {
    await backend.remove(masterOf(pool));
    await backend.rename(work, masterOf(pool));
  }
  dropIntent(host, paths);
}
