/**
 * A host for dry runs: it reads the real machine and only prints what it would change. Later reads see these changes
 * as far as our code depends on them, so that nothing else has to know that this is a dry run.
 */
import type { Host } from './host.ts';
import { type Log, logTo } from './log.ts';
import type { SimulatedView } from './simulated-view.ts';

/** The device number of what is mounted only in a dry run. No file system has it. */
const NO_DEVICE = -1;

/** Wraps `real`; `tell` is called with one line for each change, in order. */
export function dryRun(real: Host, tell: (line: string) => void): Host {
  const mounted: [string, string][] = [];
  const unmounted = new Set<string>();
  const written = new Map<string, Parameters<Host['write']>[1]>();
  const killed = new Set<string>();
  const below = (path: string): [string, string] | undefined => {
    for (const mount of mounted) {
      const from = mount[0];
      if (path.startsWith(from) && (path.length === from.length || path[from.length] === '/')) return mount;
    }
    return undefined;
  };
  const at = (path: string): string => {
    const mount = below(path);
    return mount ? mount[1] + path.slice(mount[0].length) || '/' : path;
  };
  const aside =
    <T>(ask: (path: string) => T) =>
    (path: string): T =>
      ask(at(path));
  const view: SimulatedView = {
    mount: (path, instead) => mounted.push([path, instead === '/' ? '' : instead]),
    unmount: path => unmounted.add(path),
    write: (path, text) => written.set(path, text),
    end: pid => killed.add(String(pid)),
  };
  return {
    ...real,
    async run(c) {
      if (c.effect === 'read') return real.run(c);
      const lines = c.describe?.() ?? (c.file === 'flock' ? [] : [`run ${c.file} ${c.args.join(' ')}`]);
      lines.forEach(tell);
      c.simulate?.(view);
      return { code: 0, stdout: '', stderr: '' };
    },
    async runInteractive(c) {
      tell(`run ${c.file} ${c.args.join(' ')}`);
      return 0;
    },
    read(path) {
      if (killed.size > 0 && killed.has(path.split('/', 3)[2] ?? '') && path.startsWith('/proc/'))
        return undefined;
      const text = written.get(path);
      const now = (typeof text === 'function' ? text() : text) ?? real.read(at(path));
      if (killed.size === 0 || !path.endsWith('/cgroup.procs')) return now;
      return now
        ?.split('\n')
        .filter(pid => !killed.has(pid))
        .join('\n');
    },
    list(path) {
      const names = real.list(at(path));
      return path === '/proc' ? names.filter(name => !killed.has(name)) : names;
    },
    lstat(path) {
      const s = real.lstat(at(path));
      if (!s) return undefined;
      if (below(path)) return { ...s, dev: NO_DEVICE };
      const above = unmounted.has(path) ? real.stat(path.slice(0, path.lastIndexOf('/'))) : undefined;
      return above ? { ...s, dev: above.dev } : s;
    },
    stat: aside(real.stat),
    exists: aside(real.exists),
    pathType: aside(real.pathType),
    readlink: aside(real.readlink),
    space: aside(real.space),
    write(path, text, o) {
      if (o.cache) return;
      written.set(path, text);
      tell(`write ${path}`);
    },
    symlink: (target, path) => tell(`link ${path} to ${target}`),
    mkdir: path => {
      if (!real.exists(at(path))) tell(`create the directory ${path}`);
    },
    own(path, mode) {
      const s = real.lstat(at(path));
      if (s && (s.uid !== 0 || s.gid !== 0 || s.mode !== mode))
        tell(`give ${path} to root, with mode ${mode.toString(8).padStart(4, '0')}`);
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
    openFifo: () => -1,
    close: () => undefined,
    kill(pid, signal) {
      tell(`send ${signal} to process ${pid}`);
      killed.add(String(pid));
      return true;
    },
  };
}

/** The log of a dry run: without what is logged about a step, such as its duration, because no step was done. */
export function dryRunLog(real: Log): Log {
  return logTo((level, message, fields) => {
    if (level !== 'info' || fields.step === undefined) real(level, message, fields);
  });
}
