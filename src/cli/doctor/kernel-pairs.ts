/** Whether the stable generation matches the modules of the running kernel. */
import type { Host } from '../../linux/host.ts';
import { readableGeneration, stableNumber } from '../../state/generations.ts';
import { loadedVersions, mismatches, type PairVersions, treeVersions } from '../../update/kernel-pairs.ts';
import { installedPackages } from '../../update/losses.ts';
import { type CheckResult, check, found, notApplicable, problem, type Subject, warning } from './check.ts';

export interface KernelMatch {
  readonly loaded: PairVersions;
  readonly tree: PairVersions;
  /** What the host itself has installed: the running kernel may be older. */
  readonly installed: PairVersions;
}

export function judgeKernelMatch(m: KernelMatch | undefined): CheckResult {
  if (!m) return notApplicable('the generation is on a device, which is not mounted');
  const findings = mismatches(m.loaded, m.tree).map(({ name, words, isStrict }) => {
    const alike =
      mismatches(m.installed, m.tree).every(other => other.name !== name) && m.installed.has(name);
    // After an update of the host, until it is restarted.
    return (isStrict ? problem : warning)(`${words}`, alike ? 'reboot' : 'mayfly update');
  });
  const names = [...m.loaded.keys()].filter(name => m.tree.has(name));
  return found(findings, names.length > 0 ? `matches: ${names.join(', ')}` : 'nothing must match it');
}

function versionsIn(host: Host, root: string): PairVersions {
  const packages = installedPackages(host.read(`${root}/var/lib/dpkg/status`) ?? '');
  return treeVersions(host, root, name => packages.get(name)?.version);
}

/** Undefined if the tree of the stable generation is not to be seen without mounting it. */
async function gatherMatch({ host, paths, backend }: Subject): Promise<KernelMatch | undefined> {
  const loaded = loadedVersions(host);
  if (loaded.size === 0) return { loaded, tree: loaded, installed: loaded };
  const stable = stableNumber(host, paths);
  const volume = stable === undefined ? undefined : readableGeneration(host, paths, stable)?.volume;
  const tree = volume && backend(volume.backend).path(volume);
  if (tree === undefined || host.pathType(tree) !== 'dir') return undefined;
  return { loaded, tree: versionsIn(host, tree), installed: versionsIn(host, '') };
}

export const kernelMatchCheck = check({
  group: 'generations',
  title: 'running kernel',
  gather: gatherMatch,
  evaluate: judgeKernelMatch,
});
