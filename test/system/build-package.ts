/** The Debian package of these sources, as a stranger would build it. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { cached, must, sh } from './lab.ts';

/** The files of the sources, by their paths in them. */
function sources(): string[] {
  const words = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const files = sh('git', ['-c', 'safe.directory=*', ...words], { cwd: process.cwd() });
  if (files.code !== 0) throw new Error(`git ls-files: ${files.err}`);
  return files.out.split('\0').filter(f => fs.statSync(f, { throwIfNoEntry: false })?.isFile());
}

/** The package of the sources as they are now, built once and shared by all tests. Returns its path. */
export function sharedPackage(): string {
  const digest = createHash('sha256');
  // What tests and people read is not in it.
  for (const file of sources().filter(f => !/^(test|scripts)\//.test(f)))
    digest.update(`${file}\0${fs.statSync(file).mode}\0`).update(fs.readFileSync(file));
  return cached(`mayfly-${digest.digest('hex').slice(0, 16)}.deb`, part => {
    const dir = fs.mkdtempSync('/var/tmp/mayfly-test-');
    try {
      fs.copyFileSync(buildPackage(dir), part);
    } finally {
      must('rm', ['-r', '--one-file-system', dir]);
    }
  });
}

/** Builds it from a clean copy below `dir` and returns its path. Throws with what the build said. */
export function buildPackage(dir: string): string {
  const source = `${dir}/source`;
  for (const file of sources()) {
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
  const deb = fs.readdirSync(dir).find(f => /^mayfly_.*\.deb$/.test(f));
  if (deb === undefined) throw new Error('dpkg-buildpackage made no package');
  must('rm', ['-r', '--one-file-system', source]);
  return `${dir}/${deb}`;
}
