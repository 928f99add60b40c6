/** Home directories that come after the hook, or are symlinks, or are reached through one of the host or of the image. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { forgetUsers, Lab, must, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const A = 'mayfly-h';

describe('a home directory', () => {
  let lab: Lab;
  /** Shared, as systemd makes all mounts: what is mounted below it later reaches the sessions. */
  let base: string;
  let before: unknown;
  const at = (path: string): string => `${base}/${path}`;

  beforeAll(() => {
    user(A);
    base = fs.mkdtempSync('/mayfly-homes-');
    fs.chmodSync(base, 0o755);
    must('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'mayfly-test', base]);
    must('mount', ['--make-shared', base]);
    lab = new Lab();
    const from = makeMiniTree(`${lab.dir}/tree`);
    // As in an image that was made from such a host.
    fs.rmdirSync(`${from}/home`);
    fs.symlinkSync('var/homes', `${from}/home`);
    fs.symlinkSync('/etc', from + base);
    expect(lab.mayfly('init', '--from', from, '--quiet')).toMatchObject({ code: 0, err: '' });
    lab.hook('start', A);
    lab.hook('stop', A);
    before = lab.picture();
  });
  afterAll(() => {
    lab.close();
    must('umount', [base]);
    fs.rmdirSync(base);
    must('usermod', ['--home', `/home/${A}`, A]);
    fs.rmSync(`/home/${A}`, { recursive: true, force: true });
    forgetUsers();
  });

  const make = (path: string): void => {
    fs.mkdirSync(path, { recursive: true });
    fs.writeFileSync(`${path}/file`, path);
    must('chown', ['-R', A, path]);
  };
  const mount = (path: string): void => {
    must('mount', ['-t', 'tmpfs', 'mayfly-test', path]);
    make(path);
  };

  it.each<[string, string, () => void, () => void]>([
    ['created later', 'late/deep/home', () => undefined, () => make(at('late/deep/home'))],
    [
      'mounted later in a new directory',
      'net/home',
      () => undefined,
      () => {
        fs.mkdirSync(at('net/home'), { recursive: true });
        mount(at('net/home'));
      },
    ],
    ['mounted later over what was there', 'over', () => make(at('over')), () => mount(at('over'))],
    [
      'a symlink of root',
      'link',
      () => {
        make(at('real'));
        fs.symlinkSync('real', at('link'));
      },
      () => undefined,
    ],
    [
      'a symlink of root to what comes later',
      'before',
      () => fs.symlinkSync(at('after/home'), at('before')),
      () => make(at('after/home')),
    ],
  ])('elsewhere is that of the session: %s', (_, path, prepare, later) => {
    must('usermod', ['--home', at(path), A]);
    prepare();
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    later();
    const inside = lab.inside(A, 'sh', '-c', 'cd && cat file && echo x >new && pwd');
    expect(inside.err).toBe('');
    expect(inside.out).toMatch(new RegExp(`^${fs.realpathSync(at(path))}.*${at(path)}\n$`));
    expect(fs.readFileSync(`${at(path)}/new`, 'utf8')).toBe('x\n');
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(fs.readFileSync(`${at(path)}/new`, 'utf8')).toBe('x\n');
    if (fs.statSync(at(path)).dev !== fs.statSync(base).dev) must('umount', [at(path)]);
    expect(lab.picture()).toEqual(before);
  });

  it.each([false, true])('below /home is that of the session: a symlink to what comes later: %s', isLate => {
    must('usermod', ['--home', `/home/${A}`, A]);
    fs.rmSync(`/home/${A}`, { recursive: true, force: true });
    fs.symlinkSync(at('people/h'), `/home/${A}`);
    if (!isLate) make(at('people/h'));
    else fs.rmSync(at('people'), { recursive: true, force: true });
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    if (isLate) make(at('people/h'));
    expect(lab.inside(A, 'sh', '-c', 'cd && cat file').out).toBe(at('people/h'));
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.picture()).toEqual(before);
  });

  it('is refused with its reason where the session could not show it later', () => {
    must('usermod', ['--home', '/opt/mayfly-people/h', A]);
    const r = lab.hook('start', A);
    expect(r.code).not.toBe(0);
    expect(r.err).toMatch(/"\/opt\/mayfly-people\/h" of "mayfly-h" does not exist, and "\/opt", where/);
    expect(r.err).toMatch(/\nhint: mkdir -p \/opt\/mayfly-people\n$/);
    expect(lab.session(A)).toBeUndefined();
  });

  it('leaves the generation as it was', () => {
    const tree = `${lab.dir}/pool/generations/1`;
    expect([fs.readlinkSync(`${tree}/home`), fs.readlinkSync(tree + base)]).toEqual(['var/homes', '/etc']);
  });
});
