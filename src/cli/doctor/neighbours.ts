/** Programs of the machine that walk through all directories, and so through every generation and session of the pool. */
import { readPool } from '../../state/pool.ts';
import { type CheckResult, check, found, notApplicable, type Subject, warning } from './check.ts';
import { isDefault } from './setup.ts';

/** The configuration of updatedb(8), of plocate and mlocate. */
const UPDATEDB = '/etc/updatedb.conf';

export interface Neighbours {
  /** The directory of the pool. */
  readonly pool: string;
  /** The text of {@link UPDATEDB}; undefined if the program is not installed. */
  readonly updatedb: string | undefined;
}

/** Whether the configuration has updatedb leave `path` out. Pure. */
export function isPruned(updatedb: string, path: string): boolean {
  const lines = [...updatedb.matchAll(/^[ \t]*PRUNEPATHS[ \t]*=[ \t]*"([^"]*)"/gm)];
  const places = (lines.at(-1)?.[1] ?? '').split(/\s+/).filter(Boolean); // the last line counts
  return places.some(place => path === place || path.startsWith(`${place.replace(/\/+$/, '')}/`));
}

export function judgeNeighbours(n: Neighbours | undefined): CheckResult {
  if (!n) return notApplicable('there is no pool in a directory');
  if (n.updatedb === undefined || isPruned(n.updatedb, n.pool))
    return found([], 'nothing walks through the pool');
  const what = `updatedb(8) reads all generations and sessions in "${n.pool}" every day, and locate(1) finds each file many times`;
  const fix = /^[ \t]*PRUNEPATHS[ \t]*=[ \t]*"/m.test(n.updatedb)
    ? `sed -i 's|^ *PRUNEPATHS *= *"|&${n.pool} |' ${UPDATEDB}`
    : `echo 'PRUNEPATHS="${n.pool}"' >>${UPDATEDB}`;
  return found([warning(what, fix)], '');
}

export const neighboursCheck = check({
  group: 'pool',
  title: 'other programs',
  gather: (on: Subject): Neighbours | undefined => {
    const { host, paths } = on;
    if (!isDefault(on)) return undefined;
    const pool = readPool(host, paths);
    if (!pool || host.pathType(pool.path) !== 'dir') return undefined;
    return { pool: pool.path, updatedb: host.read(UPDATEDB) };
  },
  evaluate: judgeNeighbours,
});
