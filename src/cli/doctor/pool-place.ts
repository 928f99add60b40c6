/** Where the pool is, and whether what the host mounts later arrives in sessions. */
import { isSystemInstance } from '../../state/paths.ts';
import { readPool } from '../../state/pool.ts';
import { mountPlace, poolPlaceProblem, propagationOf, propagationProblem } from '../../update/pool-place.ts';
import { check, found, notApplicable, problem, warning } from './check.ts';

export const placeChecks = [
  check({
    group: 'pool',
    title: 'place',
    async gather({ host, paths, config }) {
      const pool = readPool(host, paths);
      if (!pool || pool.image !== undefined || host.pathType(pool.path) !== 'dir') return undefined;
      const place = await mountPlace(host, pool.path);
      return {
        words: `on ${place?.type ?? 'an unknown file system'}`,
        bad: poolPlaceProblem(pool, place, config.overlay.upper),
      };
    },
    evaluate: facts =>
      facts
        ? found(facts.bad ? [problem(facts.bad.what, facts.bad.fix)] : [], facts.words)
        : notApplicable('the pool is not in a directory'),
  }),
  check({
    group: 'sessions',
    title: 'later mounts',
    // Another instance is for tests and demonstrations, perhaps in a namespace of its own.
    gather: async on => (isSystemInstance(on.paths) ? propagationOf(on) : undefined),
    evaluate(all) {
      if (!all) return notApplicable('this is not the instance of the system');
      const bad = propagationProblem(all);
      return found(bad ? [warning(bad.what, bad.fix)] : [], 'they arrive in sessions');
    },
  }),
];
