/** Volumes of ended sessions that wait to be erased, and deleted ones whose space is held. */
import { REMEDY } from '../../advice.ts';
import { describeDiscarded, overdueReason } from '../../state/discarded.ts';
import { readPool } from '../../state/pool.ts';
import type { Discarded } from '../../volume/backend.ts';
import { type CheckResult, check, found, warning } from './check.ts';

export function judgeDiscarded(all: readonly Discarded[]): CheckResult {
  const findings = all.flatMap(d => {
    const overdue = overdueReason(d);
    return overdue === undefined ? [] : [warning(overdue, REMEDY.recover)];
  });
  return found(findings, describeDiscarded(all) ?? 'no volume waits to be erased');
}

export const discardedCheck = check({
  group: 'sessions',
  title: 'erasing',
  async gather({ host, paths, backend }) {
    const pool = readPool(host, paths);
    return pool ? (await backend(pool.backend).list(pool.path)).discarded : [];
  },
  evaluate: judgeDiscarded,
});
