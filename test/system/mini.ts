/** The smallest tree a person can log in to, made of this machine's own programs: updates of it take no time. */
import * as fs from 'node:fs';
import { must } from './lab.ts';

const PROGRAMS = ['sh', 'bash', 'env', 'true', 'cat', 'sleep', 'getent'];

/** Makes the tree at `directory`, which must not exist; `more`: programs of /usr/bin that it has, too. */
export function makeMiniTree(directory: string, more: readonly string[] = []): string {
  const put = (path: string): void => {
    const real = fs.realpathSync(path);
    const target = directory + path;
    if (fs.existsSync(target)) return;
    fs.mkdirSync(target.slice(0, target.lastIndexOf('/')), { recursive: true });
    fs.copyFileSync(real, target);
    fs.chmodSync(target, 0o755);
  };
  for (const name of [
    'etc',
    'usr/bin',
    'usr/sbin',
    'var/tmp',
    'proc',
    'sys',
    'dev',
    'run',
    'tmp',
    'home',
    'media',
  ])
    fs.mkdirSync(`${directory}/${name}`, { recursive: true });
  for (const program of [...PROGRAMS, ...more]) {
    const path = `/usr/bin/${program}`; // every Debian has /usr merged
    for (const line of must('ldd', [path]).split('\n')) {
      const library = /(\/\S+) \(0x/.exec(line)?.[1];
      if (library !== undefined) put(library);
    }
    put(path);
    put(`/bin/${program}`);
  }
  fs.writeFileSync(`${directory}/etc/passwd`, 'root:x:0:0:root:/root:/bin/sh\n');
  fs.writeFileSync(`${directory}/etc/group`, 'root:x:0:\n');
  fs.writeFileSync(`${directory}/etc/nsswitch.conf`, 'passwd: files\ngroup: files\n');
  fs.writeFileSync(`${directory}/etc/shadow`, 'root:*:::::::\n', { mode: 0o640 });
  return directory;
}
