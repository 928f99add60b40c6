/** A directory whose groups cannot be asked: nobody gets the host for want of an answer. */
import { describe, expect, it } from 'vitest';
import { getsSession, isLeftAlone } from '../../src/session/scope.ts';
import { login } from '../../src/session/session.ts';
import { lookupGroups } from '../../src/session/unknown-groups.ts';
import { callOf, preparedWorld } from '../world.ts';

const DORA = 'dora:x:70005:80000::/home/alice:/bin/sh\n';

/** A machine with a directory. `groups`: what it answers about groups of a name; undefined stands for silence. */
function world(
  include: string,
  groups: Readonly<Record<string, string>> | undefined = {},
  initgroups = '80000',
) {
  const w = preparedWorld();
  w.put('/etc/nsswitch.conf', 'passwd: files sss\ngroup: files sss\n');
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', include);
  const asked: string[] = [];
  const own = w.programs.perl;
  w.programs.perl = args => {
    if (!args[1]?.includes('getgrnam')) return own?.(args);
    asked.push(args.slice(3).join(' '));
    return {
      stdout: args
        .slice(3)
        .map(name => `${groups[name] ?? ''}\n`)
        .join(''),
    };
  };
  w.programs.getent = ([, database = '', ...keys]) => {
    asked.push(database);
    if (database === 'passwd') return keys[0] === 'dora' ? { stdout: DORA } : { code: 2 };
    if (database === 'initgroups') return { stdout: `${keys[0]} ${initgroups}\n` };
    return { stdout: keys.map(key => `group${key}:x:${key}:\n`).join('') };
  };
  return { w, asked, start: (name: string) => login(w.machine(), callOf(w, name, ':0')) };
}

describe('somebody of a directory', () => {
  it.each([
    ['a group that is not known', 'include = ["@students"]\n', '"@students"', 'getent group students'],
    [
      'one of several',
      'include = ["@group1", "@domain admins", "@known"]\n',
      '"@group1", "@domain admins"',
      "getent group group1 'domain admins'",
    ],
    ['one beside people', 'include = ["bob", "@2024"]\n', '"@2024"', 'getent group 2024'],
  ])('is refused with a code for %s', async (_, include, names, hint) => {
    const { start } = world(include, { known: '5000 bob' });
    await expect(start('dora')).rejects.toMatchObject({
      code: 'unknown-group',
      message: `nobody can tell whether "dora" gets a session: this machine does not know ${names} in "include" now`,
      facts: { hint },
    });
  });

  it.each([
    [
      'the group has another spelling there',
      { 'DOM\\\\students': '80000 ' },
      'include = ["@DOM\\\\\\\\students"]\n',
    ],
    [
      'only the list of the members has the name',
      { students: '5000 bob dora eve' },
      'include = ["@students", "@gone"]\n',
    ],
    ['another entry matches', {}, 'include = ["@gone", "dora"]\n'],
    ['everybody does', {}, 'include = ["*", "@gone"]\n'],
    ['a group that would exclude them is not known', {}, 'exclude = ["@teachers"]\n'],
  ])('gets a session if %s', async (_, groups, include) => {
    expect((await world(include, groups).start('dora'))?.state).toBe('live');
  });

  it.each([
    [
      'is in none of the groups, which are known',
      'include = ["@students"]\n',
      { students: '5000 bob dorian' },
    ],
    ['is excluded all the same', 'include = ["@gone"]\nexclude = ["dora"]\n', {}],
    ['is not in a group of this machine', 'include = ["@audio"]\n', {}],
    ['is not one of those with a name in the list', 'include = ["bob"]\n', {}],
  ])('gets the host if they %s', async (_, include, groups) => {
    expect(await world(include, groups).start('dora')).toBeUndefined();
  });

  it('is asked about with one process, and only if it matters', async () => {
    const { asked, start } = world('include = ["@one", "@two words", "@audio"]\n', {
      one: '1 ',
      'two words': '2 ',
    });
    await start('dora');
    expect(asked).toEqual(['passwd', 'initgroups', 'group', 'one two words']);
  });
});

describe('an account of this machine', () => {
  it('is not refused for a group of a directory, nor asked about', async () => {
    const { asked, start } = world('include = ["@students"]\n');
    expect(await start('alice')).toBeUndefined();
    expect(asked.filter(what => what === 'students')).toEqual([]);
  });

  it.each([
    ['root', 'include = ["@students"]\n'],
    ['alice', 'exclude = ["@audio"]\n'],
    ['alice', 'exclude = ["alice"]\n'],
  ])('%s with %j gets the host without an answer of the directory', async (name, config) => {
    const { asked, start } = world(config);
    expect(await start(name)).toBeUndefined();
    expect(asked).toEqual([]);
  });

  it('that is in scope is not left alone', () => {
    const { w } = world('include = ["*"]\n');
    const { host, config } = w.machine();
    const alice = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };
    expect(isLeftAlone(host, config, alice)).toBe(false);
    expect(isLeftAlone(host, config, { ...alice, uid: 65534 })).toBe(true);
  });
});

it('with only local groups, a typing mistake refuses nobody of the machine', async () => {
  const { w, asked, start } = world('include = ["@studnets"]\n');
  w.put('/etc/nsswitch.conf', 'group: files\n');
  expect(await start('alice')).toBeUndefined();
  expect(asked).toEqual([]);
});

it('no answer to the question about groups means that none is known', async () => {
  const { w } = world('');
  w.programs.perl = () => ({ code: 124 });
  expect(await lookupGroups(w.host, ['a', 'b'], 'dora')).toEqual([undefined, undefined]);
  expect(await lookupGroups(w.host, [], 'dora')).toEqual([]);
  await expect(
    getsSession(
      w.host,
      { ...w.machine().config, include: ['@a'] },
      { name: 'dora', uid: 70005, gid: 1, gecos: '', home: '/', shell: '' },
      [],
    ),
  ).rejects.toMatchObject({ code: 'unknown-group' });
});
