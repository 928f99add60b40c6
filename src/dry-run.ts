/** A host that reads the real machine and only tells what it would write. */
import type { Host } from './host.ts';

/** `tell` gets one line per effect, in order. */
export function dryRun(real: Host, tell: (line: string) => void): Host {
  const aliases: [string, string][] = [];
  const written = new Map<string, string>();
  const at = (path: string): string => {
    const alias = aliases.find(([from]) => path === from || path.startsWith(`${from}/`));
    return alias ? alias[1] + path.slice(alias[0].length) : path;
  };
  return {
    ...real,
    async run(c) {
      if (c.effect === 'read') return real.run(c);
      const words = c.says?.() ?? (c.file === 'flock' ? [] : [`run ${c.file} ${c.args.join(' ')}`]);
      for (const line of words) tell(line);
      return { code: 0, stdout: '', stderr: '' };
    },
    async interact(c) {
      tell(`run ${c.file} ${c.args.join(' ')}`);
      return 0;
    },
    read: path => written.get(path) ?? real.read(at(path)),
    list: path => real.list(at(path)),
    lstat: path => real.lstat(at(path)),
    stat: path => real.stat(at(path)),
    kindOf: path => real.kindOf(at(path)),
    readlink: path => real.readlink(at(path)),
    space: path => real.space(at(path)),
    write(path, text) {
      if (typeof text === 'string') written.set(path, text);
      tell(`write ${path}`);
    },
    symlink: (target, path) => tell(`point ${path} at ${target}`),
    mkdir: path => {
      if (real.kindOf(at(path)) === undefined) tell(`make the directory ${path}`);
    },
    poke(path, text) {
      tell(`write "${text}" into ${path}`);
      return true;
    },
    rename: (from, to) => tell(`rename ${from} to ${to}`),
    unlink: path => {
      if (written.delete(path) || real.lstat(at(path))) tell(`remove ${path}`);
    },
    rmdir: path => {
      if (real.lstat(at(path))) tell(`remove the directory ${path}`);
    },
    sync: () => undefined,
    openLock: () => -1,
    close: () => undefined,
    kill(pid, signal) {
      tell(`send ${signal} to process ${pid}`);
      return true;
    },
    pretend: (path, instead) => {
      aliases.push([path, instead]);
    },
  };
}
