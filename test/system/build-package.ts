/** The Debian package of these sources, as a stranger would build it. */
import * as fs from 'node:fs';
import { must, sh } from './lab.ts';

/** Builds it from a clean copy below `dir` and returns its path. Throws with what the build said. */
export function buildPackage(dir: string): string {
  const source = `${dir}/source`;
  const files = sh(
    'git',
    ['-c', 'safe.directory=*', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    { cwd: process.cwd() },
  );
  for (const file of files.out.split('\0').filter(f => f !== '' && fs.existsSync(f))) {
    fs.mkdirSync(`${source}/${file}`.replace(/\/[^/]*$/, ''), { recursive: true });
    fs.copyFileSync(file, `${source}/${file}`);
  }
  fs.symlinkSync(fs.realpathSync('node_modules'), `${source}/node_modules`);
  const node = process.execPath.replace(/\/[^/]*$/, '');
  const built = sh('dpkg-buildpackage', ['-us', '-uc', '-b', '-d'], {
    cwd: source,
    env: { PATH: `${node}:/usr/sbin:/usr/bin:/sbin:/bin`, HOME: '/root', LC_ALL: 'C.UTF-8' },
  });
  if (built.code !== 0) throw new Error(`dpkg-buildpackage: ${built.err}`);
  const deb = fs.readdirSync(dir).find(f => /^mayfly_.*_all\.deb$/.test(f));
  if (deb === undefined) throw new Error('dpkg-buildpackage made no package');
  must('rm', ['-r', '--one-file-system', source]);
  return `${dir}/${deb}`;
}
