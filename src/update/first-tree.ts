/** What the first tree must be: complete, and proven by the checks of an update. */
import { MayflyError, reasonOf } from '../errors.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { forgetAll, type Generation } from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import type { Volume } from '../volume/backend.ts';
import { checkGeneration } from './check.ts';
import type { Progress } from './source.ts';

/** Throws `refused` if the tree is not a complete system, and removes what must be unique to one machine. */
export function finishTree(host: Host, tree: string, say: Progress): void {
  const top = host.lstat(tree);
  if (top?.mode !== 0o755 || top.uid !== 0)
    say('the directory "/" of the tree is given to root, with mode 755, so that users can enter it');
  host.own(tree, 0o755);
  for (const name of ['etc', 'usr', 'var']) {
    if (host.lstat(`${tree}/${name}`)?.kind !== 'dir') {
      throw new MayflyError('refused', `the tree is not a complete system: it has no directory "/${name}"`);
    }
  }
  for (const path of ['/etc/passwd', '/etc/group']) {
    if (host.lstat(tree + path)?.kind !== 'file') {
      throw new MayflyError('refused', `the tree is not a complete system: it has no "${path}"`, { path });
    }
  }
  if (host.lstat(`${tree}/bin/sh`) === undefined && host.lstat(`${tree}/usr/bin/sh`) === undefined) {
    throw new MayflyError('refused', 'the tree is not a complete system: it has no "/bin/sh"');
  }
  sweepTemporary(host, `${tree}/etc`);
}

/** Checks the first generation as an update checks its own. Throws `refused`, and then nothing of it is left. */
export async function requireProof(on: Machine, g: Generation, work: Volume, say: Progress): Promise<void> {
  say('checking the generation with a trial login', true);
  try {
    const { warnings } = await checkGeneration(on, g, say);
    for (const warning of warnings) on.log('warning', warning);
  } catch (error) {
    const backend = on.backend(g.volume.backend);
    try {
      for (const v of [g.volume, work]) await backend.remove(v);
      forgetAll(on.host, on.paths); // last: these records identify the leftovers
    } catch (failure) {
      on.log('warning', `the next "mayfly init" removes what is left: ${reasonOf(failure)}`);
    }
    const what = `the system is not usable: ${reasonOf(error)}`;
    throw new MayflyError(
      'refused',
      what,
      { hint: 'correct the source, and run "mayfly init" again' },
      { cause: error },
    );
  }
}
