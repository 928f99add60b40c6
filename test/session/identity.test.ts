/** What a session's account files say. */
import { describe, expect, it } from 'vitest';
import type { User } from '../../src/linux/accounts.ts';
import { shellIn, sudoRule, takenNumbers, withEntry, withGroups } from '../../src/session/identity.ts';
import { freshNumbers } from '../../src/session/number-conflicts.ts';

const alice: User = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };

describe('identity', () => {
  it.each([
    ['root:x:0:0::/:/bin/sh\n', 'root:x:0:0::/:/bin/sh\nalice:x:1001:1001:::\n'],
    ['alice:x:5:5:::\n', 'alice:x:1001:1001:::\n'],
    ['student:x:1001:1001:::\n', 'alice:x:1001:1001:::\n'],
    ['student:x:1002:1001:::', 'student:x:1002:1001:::\nalice:x:1001:1001:::\n'],
  ])('passwd %j becomes %j', (text, expected) =>
    expect(withEntry(text, 'alice:x:1001:1001:::', 2)).toBe(expected),
  );

  const groups = [
    { name: 'alice', gid: 1001, members: [] },
    { name: 'audio', gid: 29, members: ['alice'] },
    { name: 'sudo', gid: 27, members: ['alice'] },
    { name: 'lab', gid: 2000, members: ['alice'] },
    { name: 'render', gid: 104, members: ['alice'] },
  ];
  it('adds the user to their groups, but never to groups that grant root', () => {
    const text = 'root:x:0:\naudio:x:29:pulse\nsudo:x:27:\nother:x:104:\n';
    expect(withGroups(text, alice, groups)).toBe(
      'root:x:0:\naudio:x:29:pulse,alice\nsudo:x:27:\nother:x:104:\nalice:x:1001:\nlab:x:2000:alice\n',
    );
  });
  it.each([
    ['the name under another number', 'kmem', 70015, 'kmem:x:15:\ntape:x:26:\n'],
    ['the number under another name', 'students', 15, 'kmem:x:15:\n'],
    ['both, but in two groups', 'kmem', 26, 'kmem:x:15:\ntape:x:26:\n'],
    ['the name twice', 'kmem', 70015, 'kmem:x:15:\nkmem:x:26:\n'],
  ])('makes the user no member of a group if the generation has %s', (_what, name, gid, text) => {
    expect(withGroups(text, alice, [{ name, gid, members: [] }])).toBe(text);
  });
  it('makes the user a member only of the group with the number, if the generation has the name twice', () => {
    expect(withGroups('lab:x:15:\nlab:x:2000:\n', alice, groups.slice(3, 4))).toBe(
      'lab:x:15:\nlab:x:2000:alice\n',
    );
  });
  it('adds no line for a group without a name', () => {
    const unnamed = { name: '', gid: 85000, members: [] };
    expect(withGroups('root:x:0:\n', { ...alice, gid: 85000 }, [unnamed])).toBe('root:x:0:\n');
    expect(takenNumbers('root:x:0:\nkey:x:85000:\n', [{ name: unnamed.name, number: unnamed.gid }])).toEqual([
      85000,
    ]);
  });
  it('keeps the user in the groups that may read the journal', () => {
    const readers = [
      { name: 'adm', gid: 4, members: [] },
      { name: 'systemd-journal', gid: 999, members: [] },
    ];
    expect(withGroups('adm:x:4:\nsystemd-journal:x:999:\n', alice, readers)).toBe(
      'adm:x:4:alice\nsystemd-journal:x:999:alice\n',
    );
  });
  it('removes the user from groups that only the generation has them in', () => {
    expect(withGroups('sudo:x:27:alice,bob\n', alice, [])).toBe('sudo:x:27:bob\n');
  });
  it.each([
    [true, '#1001 ALL=(ALL:ALL) NOPASSWD: ALL\n'],
    [false, '#1001 ALL=(ALL:ALL) !ALL\n'],
  ])('allows sudo: %s', (allowed, rule) => expect(sudoRule(alice, allowed)).toBe(rule));
});

describe('the shell of a user', () => {
  const tree = (...paths: string[]) => ({
    lstat: (path: string) => (paths.includes(path) ? ({ kind: 'file' } as never) : undefined),
  });
  it.each([
    ['/usr/bin/fish', ['/r/usr/bin/fish', '/r/bin/sh'], '/usr/bin/fish'],
    ['/usr/bin/fish', ['/r/bin/bash', '/r/bin/sh'], '/bin/bash'],
    ['/usr/bin/fish', ['/r/bin/sh'], '/bin/sh'],
    ['/usr/bin/fish', [], '/usr/bin/fish'],
    ['', ['/r'], ''], // which is /bin/sh
  ])('"%s" in a tree with %j is "%s"', (shell, paths, expected) => {
    expect(shellIn(tree(...paths), '/r', shell)).toBe(expected);
  });
});

describe('numbers that belong to others', () => {
  it.each([
    ['nobody else', 'alice:x:1001:\nlab:x:2000:\n', []],
    ['another group', 'alice:x:1001:\ncert:x:2000:\n', [2000]],
    ['several names, one of them the user’s', 'cert:x:2000:\nlab:x:2000:\n', []],
    ['several others', 'cert:x:2000:\nwire:x:2000:\n', [2000]],
    ['a group for the user’s own', 'students:x:1001:\n', [1001]],
    ['another name of root', 'toor:x:0:\n', []],
    ['the beginning of a number', 'cert:x:200:\ncert:x:20001:\n', []],
    ['nothing that can be read', undefined, []],
  ])('are found for %s', (_what, text, expected) => {
    const own = Object.entries({ alice: 1001, lab: 2000, root: 0 });
    expect(takenNumbers(text, own.map(([name, number]) => ({ name, number })))).toEqual(expected); // biome-ignore format: a line
  });
  it('knows those without a name from the record of the generation', () => {
    expect(takenNumbers('', [{ name: 'alice', number: 1001 }], [1001])).toEqual([1001]);
  });
  it('get the last number that is free for them', () => {
    const text = 'cert:x:2000:\nimage:x:59999:\n';
    expect([...freshNumbers([2000, 2000, 7], text, [1001, 59998])]).toEqual([[2000, 59997], [7, 59996]]); // biome-ignore format: a line
  });
});
