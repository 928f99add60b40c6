/** A process on the real machine that crashes at a chosen effect, for the contract of the backends. */
import type { Host } from '../../src/linux/host.ts';

/** Every effect after the crash throws it. */
export class Dead extends Error {}

/**
 * The machine for a process that crashes at its effect number `at`. An effect is what changes something. A command is
 * two: the process crashes before it, or after it. A copy is three: it also stops on the way.
 */
export function dyingHost(host: Host, at: number): Host {
  let effects = 0;
  const effect = (): void => {
    effects += 1;
    if (effects >= at) throw new Dead(`died at effect ${at}`);
  };
  const before =
    <A extends unknown[], R>(act: (...args: A) => R) =>
    (...args: A): R => {
      effect();
      return act(...args);
    };
  return {
    ...host,
    async run(c) {
      if (c.effect === 'read') return host.run(c);
      effect();
      if (c.file === 'cp') effects += 1;
      if (c.file === 'cp' && effects >= at) {
        // The kernel kills it (SIGXFSZ) at the second byte of a file.
        await host
          .run({ ...c, file: 'prlimit', args: ['--fsize=1', '--core=0', '--', c.file, ...c.args] })
          .catch(() => undefined);
        throw new Dead(`died in effect ${at}`);
      }
      const out = await host.run(c);
      effect();
      return out;
    },
    write: before(host.write),
    symlink: before(host.symlink),
    mkdir: (path, mode) => {
      if (host.lstat(path)?.kind !== 'dir') effect();
      host.mkdir(path, mode);
    },
    own: before(host.own),
    rename: before(host.rename),
    unlink: before(host.unlink),
    rmdir: before(host.rmdir),
    sync: before(host.sync),
  };
}
