/** What is in the pool and not on record: whole generations, after the state directory was put back; copies; damaged ones. */
import { REMEDY } from '../../advice.ts';
import { readPool } from '../../state/pool.ts';
import { type Unrecorded, unrecorded } from '../../update/unrecorded.ts';
import type { Volume } from '../../volume/backend.ts';
import { lvNameOf, parsePoolPath, tagOf } from '../../volume/lvm/names.ts';
import { type CheckResult, check, found, notApplicable, type Subject, warning } from './check.ts';

/** The command that takes a volume out of Mayfly's hands without removing it. */
export function putAside(v: Volume): string {
  if (v.backend === 'lvm' || v.backend === 'lvm-thin')
    return `lvchange --deltag ${tagOf(v)} ${parsePoolPath(v.pool).group}/${lvNameOf(v, () => '')}`;
  const directory = `${v.pool}/generations`;
  return `mv ${directory}/${v.name} ${directory}/kept-${v.name}`;
}

export function judgeUnrecorded(all: readonly Unrecorded[] | undefined): CheckResult {
  if (!all) return notApplicable('there is no pool');
  return found(
    all.flatMap(({ volume, action, why }) => {
      const what = `generation ${volume.name} is in the pool and not on record`;
      if (action === 'adopt') return [warning(`${what}: ${why}`, REMEDY.recover)];
      return action === 'keep' ? [warning(`${what}; it is kept: ${why}`, putAside(volume))] : [];
    }),
    'nothing that is not on record',
  );
}

async function gatherUnrecorded(on: Subject): Promise<readonly Unrecorded[] | undefined> {
  const pool = readPool(on.host, on.paths);
  if (!pool || on.backend(pool.backend).isThere?.(pool.path, pool.id) === false) return undefined;
  return unrecorded(on, pool);
}

export const unrecordedCheck = check({
  group: 'pool',
  title: 'contents',
  gather: gatherUnrecorded,
  evaluate: judgeUnrecorded,
});
