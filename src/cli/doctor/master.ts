/** The tree of master: whether a generation would contain all of it. */

import { readPool } from '../../state/pool.ts';
import { readRunning } from '../../state/update-history.ts';
import { type SeparateTree, separateTrees, whyLost } from '../../update/separate-trees.ts';
import { masterOf } from '../../volume/backend.ts';
import { type CheckResult, check, found, notApplicable, problem, type Subject } from './check.ts';

export interface MasterTree {
  readonly root: string;
  readonly separate: readonly SeparateTree[];
  /** It is not empty. */
  readonly isSystem?: boolean;
}

export function judgeMaster(m: MasterTree | undefined): CheckResult {
  if (!m) return notApplicable('there is no master in a directory, or an update is running');
  if (m.isSystem === false) {
    const what = `master ("${m.root}") is empty; the next update makes it again from the stable generation`;
    return found([problem(what, `mv ${m.root} ${m.root}.kept && mayfly update --force`)], '');
  }
  const lost = m.separate.flatMap(t => whyLost(t, m.root) ?? []);
  return found(
    lost.map(l => problem(l.what, l.fix)),
    'one tree, without subvolumes and mounts',
  );
}

async function gatherMaster(on: Subject): Promise<MasterTree | undefined> {
  const { host, paths } = on;
  const pool = readPool(host, paths);
  if (!pool || readRunning(host, paths)) return undefined;
  const master = masterOf(pool);
  const root = on.backend(pool.backend).path(master);
  if (root === undefined || host.lstat(root) === undefined) return undefined;
  const isSystem = host.list(root).length > 0;
  return { root, separate: await separateTrees(on, master), isSystem };
}

export const masterCheck = check({
  group: 'pool',
  title: 'master',
  gather: gatherMaster,
  evaluate: judgeMaster,
});
