/** Master: giving it its role, and whether it is the tree that an update left. */
import type { Machine } from '../state/machine.ts';
import type { Paths } from '../state/paths.ts';
import { masterOf, type Pool, workOf } from '../volume/backend.ts';

function masterPath(paths: Paths): string {
  return `${paths.state}/master`;
}

/** Gives the working copy the role of master, and records its identity: by that a copy of master is known later. */
export async function makeMaster(on: Machine, pool: Pool): Promise<void> {
  const backend = on.backend(pool.backend);
  const identity = await backend.identity(workOf(pool));
  on.host.write(masterPath(on.paths), `${identity ?? ''}\n`, { mode: 0o600, durable: true });
  await backend.rename(workOf(pool), masterOf(pool));
}

export function forgetMaster({ host, paths }: Machine): void {
  host.unlink(masterPath(paths));
}

/** Whether master is not the tree that an update left: it was put back or moved, and nobody knows whether it is complete. */
export async function isMasterMoved(on: Machine, pool: Pool): Promise<boolean> {
  const recorded = on.host.read(masterPath(on.paths))?.trim();
  const now = await on.backend(pool.backend).identity(masterOf(pool));
  return recorded !== undefined && recorded !== '' && now !== undefined && now !== recorded;
}
