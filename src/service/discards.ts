/**
 * Completes the erasing of discarded volumes, beside everything else that the service does: it can take minutes, and
 * nobody waits for it.
 */
import { reasonOf } from '../errors.ts';
import { eraseDiscarded, overdueReason } from '../state/discarded.ts';
import type { Machine } from '../state/machine.ts';
import type { Pool } from '../volume/backend.ts';

export interface Discards {
  /** Starts to complete it, unless that is being done, and resolves when it is done. Never rejects. */
  erase(on: Machine, pool: Pool): Promise<void>;
}

/** The discards of one run of the service. Each thing that goes wrong is logged once for as long as it lasts. */
export function discards(): Discards {
  let running: Promise<void> | undefined;
  let reported = new Set<string>();

  async function act(on: Machine, pool: Pool): Promise<void> {
    const wrong: string[] = [];
    const tryEach = async (what: string, erase: () => Promise<void>): Promise<void> => {
      await erase().catch(error => wrong.push(`cannot erase ${what}: ${reasonOf(error)}`));
    };
    try {
      await eraseDiscarded(on, pool, tryEach);
      const { discarded } = await on.backend(pool.backend).list(pool.path);
      wrong.push(...discarded.flatMap(d => overdueReason(d) ?? []));
    } catch (error) {
      wrong.push(`cannot list the discarded volumes: ${reasonOf(error)}`);
    }
    for (const what of wrong) if (!reported.has(what)) on.log('warning', what);
    reported = new Set(wrong);
  }

  return {
    erase(on, pool) {
      running ??= act(on, pool).finally(() => {
        running = undefined;
      });
      return running;
    },
  };
}
