/** What is made in the /run of a session. */
import { describe, expect, it } from 'vitest';
import { makeMountOps, type NewEntry } from '../../src/linux/mount-program.ts';
import { withRunEntries } from '../../src/session/run-directory.ts';
import { parseRunEntries } from '../../src/update/run-template.ts';

const entry = (path: string, type: NewEntry['type'] = 'd') => ({
  ...{ type, mode: 0o755, uid: 0, gid: 0, path, data: '' },
});

describe('the entries of tmpfiles.d', () => {
  const call = makeMountOps();
  const tmpfs = (target: string) => call({ source: 'mayfly', target, type: 'tmpfs', options: 'mode=0755' });
  const bind = (target: string) => call({ source: '/x', target, type: 'none', options: 'bind,slave' });
  const calls = [tmpfs('/r'), tmpfs('/r/run'), bind('/r/run/cups'), bind('/r/run/systemd/journal')];
  const mounts = ['/r/run', '/r/run/cups', '/r/run/systemd/journal'].map(target => ({ target }));
  const made = (...entries: ReturnType<typeof entry>[]) =>
    withRunEntries(calls, '/r/run', entries, mounts).map(c => `${c.op} ${c.target.slice(3)}`);

  it('are made after the mount of /run and before those in it', () =>
    expect(made(entry('screen'), entry('utmp', 'f'))).toEqual([
      'mount ',
      'mount run',
      'make run/screen',
      'make run/utmp',
      'mount run/cups',
      'mount run/systemd/journal',
    ]));
  it.each([
    ['a directory above a mount', entry('systemd'), true],
    ['a symlink above a mount', entry('systemd', 'l'), false],
    ['a file above a mount', entry('systemd', 'f'), false],
    ['a directory where the host’s is mounted', entry('cups'), false],
    ['a symlink where the host’s is mounted', entry('cups', 'l'), false],
    ['a file in a directory of the host', entry('cups/certs/0', 'f'), false],
    ['a directory with a similar name', entry('cups-browsed'), true],
  ])('%s', (_what, e, isMade) => expect(made(e).includes(`make run/${e.path}`)).toBe(isMade));
  it('are left out where the configuration binds all of /run', () =>
    expect(withRunEntries([tmpfs('/r'), bind('/r/run')], '/r/run', [entry('screen')], [])).toHaveLength(2));
});

describe('the output about the directory /run of the copy', () => {
  const text = [
    'text foo/bar\naGVsbG8K\n',
    'd 1777 0 43 screen\n',
    'f 640 0 8 foo/bar\n',
    'd 755 0 0 foo\n',
    'l 777 0 0 shm\n/dev/shm',
    'f 664 0 43 a name\n',
    'p 600 0 0 fifo\n',
    's 600 0 0 socket\n',
    ...['lock', 'lock/subsys', 'nologin', 'mayfly', 'mayfly/users'].map(path => `d 755 0 0 ${path}\n`),
    'd 755 0 0 locker\n',
    '',
  ].join('\0');
  it('gives directories, files with their text, and symlinks, each after the directory it is in', () =>
    expect(parseRunEntries(text).map(e => [e.type, e.mode, e.gid, e.path, e.data])).toEqual([
      ['f', 0o664, 43, 'a name', ''],
      ['d', 0o755, 0, 'foo', ''],
      ['f', 0o640, 8, 'foo/bar', 'hello\n'],
      ['d', 0o755, 0, 'locker', ''],
      ['d', 0o1777, 43, 'screen', ''],
      ['l', 0o777, 0, 'shm', '/dev/shm'],
    ]));
  it.each(['', '\0', 'text x', 'nonsense\n\0'])('%j gives none', nothing =>
    expect(parseRunEntries(nothing)).toEqual([]),
  );
});
