/** Whether the stable generation matches the modules of the running kernel. */
import { readableGeneration, stableNumber } from '../../state/generations.ts';
import { judgePairs, type KernelMatch, matchOf } from '../../update/kernel-match.ts';
import { loadedVersions } from '../../update/kernel-pairs.ts';
import { type CheckResult, check, found, notApplicable, problem, type Subject, warning } from './check.ts';

export function judgeKernelMatch(m: KernelMatch | undefined): CheckResult {
  if (!m) return notApplicable('the generation is on a device, which is not mounted');
  const findings = judgePairs(m).map(({ words, isStrict, remedy }) =>
    (isStrict ? problem : warning)(words, remedy === 'reboot' ? 'reboot' : 'mayfly update'),
  );
  const names = [...m.loaded.keys()].filter(name => m.tree.has(name));
  return found(findings, names.length > 0 ? `matches: ${names.join(', ')}` : 'nothing must match it');
}

/** Undefined if the tree of the stable generation is not to be seen without mounting it. */
async function gatherMatch({ host, paths, backend }: Subject): Promise<KernelMatch | undefined> {
  const loaded = loadedVersions(host);
  if (loaded.size === 0) return { loaded, tree: loaded, installed: loaded };
  const stable = stableNumber(host, paths);
  const volume = stable === undefined ? undefined : readableGeneration(host, paths, stable)?.volume;
  const tree = volume && backend(volume.backend).path(volume);
  if (tree === undefined || host.pathType(tree) !== 'dir') return undefined;
  return matchOf(host, tree, loaded);
}

export const kernelMatchCheck = check({
  group: 'generations',
  title: 'running kernel',
  gather: gatherMatch,
  evaluate: judgeKernelMatch,
});
