/** A host for dry runs: it reads the real machine and only prints what it would change. */
import type { Host } from './host.ts';

/** Wraps `real`; `tell` is called with one line for each change, in order. */
export function dryRun(real: Host, tell: (line: string) => void): Host {
  const aliases: [string, string][] = [];
  const written = new Map<string, Parameters<Host['write']>[1]>();
  const at = (path: string): string => {
    const alias = aliases.find(([from]) => path === from || path.startsWith(`${from}/`));
    return alias ? alias[1] + path.slice(alias[0].length) : path;
  };
  const aside =
    <T>(ask: (path: string) => T) =>
    (path: string): T =>
      ask(at(path));
  return {
    ...real,
    async run(c) {
      if (c.effect === 'read') return real.run(c);
      const lines = c.describe?.() ?? (c.file === 'flock' ? [] : [`run ${c.file} ${c.args.join(' ')}`]);
      lines.forEach(tell);
      return { code: 0, stdout: '', stderr: '' };
    },
    async runInteractive(c) {
      tell(`run ${c.file} ${c.args.join(' ')}`);
      return 0;
    },
    read(path) {
      const text = written.get(path);
      return (typeof text === 'function' ? text() : text) ?? real.read(at(path));
    },
    list: aside(real.list),
    lstat: aside(real.lstat),
    stat: aside(real.stat),
    exists: aside(real.exists),
    pathType: aside(real.pathType),
    readlink: aside(real.readlink),
    space: aside(real.space),
    write(path, text) {
      written.set(path, text);
      tell(`write ${path}`);
    },
    symlink: (target, path) => tell(`link ${path} to ${target}`),
    mkdir: path => {
      if (!real.exists(at(path))) tell(`create the directory ${path}`);
    },
    writeControlFile(path, text) {
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
