/** Network accounts: names that are not in /etc/passwd are looked up through NSS, with getent(1). */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkUserName,
  groupsAreLocal,
  groupsOf,
  lookupUser,
  parsePasswd,
} from '../../src/linux/accounts.ts';
import type { Command } from '../../src/linux/command.ts';
import type { Host } from '../../src/linux/host.ts';
import { SEED } from '../campaign.ts';
import { World } from '../world.ts';

console.log(`MAYFLY_SEED=${SEED}`);
fc.configureGlobal({ seed: SEED | 0 });

/** A host whose NSS knows dave of a domain, in two groups of the domain and one of the machine. */
function networked(): { host: Host; asked: string[] } {
  const world = new World();
  world.put('/etc/nsswitch.conf', 'passwd: files sss\ngroup: files sss\n');
  const asked: string[] = [];
  const answers: Record<string, string> = {
    'passwd dave@lab.example': 'dave@lab.example:*:70001:70000:Dave:/home/dave:/bin/bash\n',
    'initgroups dave@lab.example': 'dave@lab.example      70000 70010 29\n',
    'group 70000': 'students@lab.example:*:70000:\n',
    'passwd erin': 'erin,root:*:70002:70000:Erin:/home/erin:/bin/bash\n',
    // A name made of digits that is another account's uid, and one that is its own.
    'getpwnam 70001': '70001:x:70005:70000::/home/70001:/bin/bash',
    'getpwnam 70004': '70004:x:70004:70000::/home/70004:/bin/bash',
    'initgroups 70001': '70001      70000 70010\n',
    // Their comments are "x:/srv/private/bob:/bin/sh", without and with a newline at the end.
    'passwd oscar': 'oscar:*:70006:70000:x:/srv/private/bob:/bin/sh:/home/oscar:/bin/bash\n',
    'passwd peggy': 'peggy:*:70007:70000:x:/srv/private/bob:/bin/sh\n:/home/peggy:/bin/bash\n',
    'getpwnam 70008': '70008:x:70008:70000:x:/srv/private/bob:/bin/sh:/home/70008:/bin/bash',
    'passwd mallory': 'mallory:*:70003:70000:Mallory:/home/mallory:/bin/bash\n',
    'initgroups frank': 'frank      85000 85001 70010\n',
    'initgroups mallory': 'mallory      70000 70029\n',
    'group 70029': 'audio:*:70029:mallory\n',
    'group 70010': 'robotics@lab.example:*:70010:dave@lab.example,erin@lab.example\n',
  };
  const run = async (c: Command) => {
    const [database = '', ...keys] = c.file === 'perl' ? ['getpwnam', ...c.args.slice(3)] : c.args.slice(1);
    asked.push([database, ...keys].join(' '));
    const found = keys.flatMap(key => answers[`${database} ${key}`] ?? []);
    const code = c.file === 'perl' || found.length === keys.length ? 0 : 2;
    return { code, stdout: found.join(''), stderr: '' };
  };
  return { host: { ...world.host, run }, asked };
}

describe('a network account', () => {
  it('is found with its uid, home and shell', async () => {
    const { host } = networked();
    expect(await lookupUser(host, 'dave@lab.example')).toMatchObject({
      uid: 70001,
      gid: 70000,
      home: '/home/dave',
      shell: '/bin/bash',
    });
  });
  it('has its groups in NSS, those of the machine included, without other members', async () => {
    const { host } = networked();
    const groups = await groupsOf(host, await lookupUser(host, 'dave@lab.example'));
    expect(groups).toEqual([
      { name: 'students@lab.example', gid: 70000, members: [] },
      { name: 'robotics@lab.example', gid: 70010, members: [] },
      { name: 'audio', gid: 29, members: [] },
    ]);
  });
  it('is not looked up if the machine has a local account of that name', async () => {
    const { host, asked } = networked();
    expect((await lookupUser(host, 'alice')).uid).toBe(1001);
    expect(asked).toEqual([]);
  });
  it('is refused by name if NSS does not know it', async () => {
    const { host } = networked();
    await expect(lookupUser(host, 'mallory@lab.example')).rejects.toMatchObject({ code: 'unknown-user' });
  });
  it('is not looked up if its name could be taken for an option', async () => {
    const { host, asked } = networked();
    await expect(lookupUser(host, '--version')).rejects.toMatchObject({ code: 'bad-user' });
    expect(asked).toEqual([]);
  });
  it('is refused if NSS answers with a name that would be several in a list', async () => {
    const { host } = networked();
    await expect(lookupUser(host, 'erin')).rejects.toMatchObject({ code: 'bad-user' });
  });
  it('with a number as its name is found by this name, and never by this uid', async () => {
    const { host, asked } = networked();
    await expect(lookupUser(host, '1001')).rejects.toMatchObject({ code: 'unknown-user' });
    expect(await lookupUser(host, '70001')).toMatchObject({ uid: 70005, home: '/home/70001' });
    expect((await lookupUser(host, '70004')).uid).toBe(70004);
    expect(asked.filter(key => key.startsWith('passwd'))).toEqual([]);
  });
  it('is asked for with three processes, however many groups it has', async () => {
    const { host, asked } = networked();
    await groupsOf(host, await lookupUser(host, 'dave@lab.example'));
    expect(asked).toEqual(['passwd dave@lab.example', 'initgroups dave@lab.example', 'group 70000 70010']);
  });
  it.each(['+', '+alice', '+@staff'])('is refused if its name is a pattern in passwd(5): %s', async name => {
    const { host } = networked();
    await expect(lookupUser(host, name)).rejects.toMatchObject({ code: 'bad-user' });
  });
  it.each(['oscar', 'peggy', '70008'])(
    'is refused if its comment, which the user may write, would name the home directory: %s',
    async name => {
      const { host } = networked();
      await expect(lookupUser(host, name)).rejects.toMatchObject({
        code: 'bad-user',
        message: expect.stringContaining('is malformed: a field has ":" or a newline in it'),
      });
    },
  );
  it('is no member of a group of the machine because a group of the directory has its name', async () => {
    const { host } = networked();
    const groups = await groupsOf(host, await lookupUser(host, 'mallory'));
    expect(groups).toEqual([
      { name: 'students@lab.example', gid: 70000, members: [] },
      { name: '', gid: 70029, members: [] },
    ]);
  });
  it('has the numbers of groups that nobody knows by name', async () => {
    const { host } = networked();
    const frank = { name: 'frank', uid: 70006, gid: 85000, gecos: '', home: '/home/frank', shell: '/bin/sh' };
    expect(await groupsOf(host, frank)).toEqual([
      { name: '', gid: 85000, members: [] },
      { name: '', gid: 85001, members: [] },
      { name: 'robotics@lab.example', gid: 70010, members: [] },
    ]);
  });
  it('is in groups of the machine also where NSS, asked for its groups, leaves them out', async () => {
    const { host } = networked();
    const read = (path: string) =>
      path === '/etc/group' ? 'dialout:x:20:bob,erin\nerin2:x:21:erin2\n' : host.read(path);
    const groups = await groupsOf({ ...host, read }, erin);
    expect(groups.map(g => g.name)).toEqual(['students@lab.example', 'dialout']);
  });
});

const erin = { name: 'erin', uid: 70002, gid: 70000, gecos: '', home: '/home/erin', shell: '/bin/sh' };

describe('a local account', () => {
  it.each([
    ['users:x:100:\naudio:x:29:zoe\n', [['users', 100], ['audio', 29]]],
    ['audio:x:29:zoe\n', [['audio', 29], ['', 100]]],
    ['', [['', 100]]],
  ])('in /etc/group %j has the groups %j', async (text, expected) => {
    const world = new World();
    world.put('/etc/group', text);
    const zoe = { ...erin, name: 'zoe', gid: 100 };
    expect((await groupsOf(world.host, zoe)).map(g => [g.name, g.gid])).toEqual(expected);
  }); // biome-ignore format: a line each
});

describe('user names', () => {
  it.each([
    'alice',
    'a.b-c_d',
    'DOM\\alice',
    'alice@example.org',
    'john smith',
    'DOM\\john smith',
    'ålice',
    'a'.repeat(256),
  ])('accept %j', name => {
    expect(() => checkUserName(name)).not.toThrow();
  });
  it.each([
    '',
    '-rf',
    '..',
    '.',
    'a/b',
    '../etc',
    ' a',
    'a ',
    'a\u00a0b',
    'a\tb',
    'a\nb',
    'a:b',
    'a,b',
    'a\0b',
    'x'.repeat(300),
    '[a]',
  ])('reject %j', name => {
    expect(() => checkUserName(name)).toThrow(/^invalid user name/);
  });
  it('never contain a character that ends a path component or a line', () => {
    fc.assert(
      fc.property(fc.string(), name => {
        try {
          checkUserName(name);
        } catch {
          return true;
        }
        return (
          !/[/\n:,\0]/.test(name) &&
          name.trim() === name &&
          name !== '..' &&
          !name.startsWith('-') &&
          name !== ''
        );
      }),
    );
  });
});

describe('passwd lines', () => {
  it.each([
    ['alice:x:1001:1001:Alice,,,:/home/alice:/bin/bash', 1001],
    ['alice:x:x:1001::/home/alice:/bin/bash', undefined],
    ['alice:x:-1:1001::/home/alice:/bin/bash', undefined],
    ['alice:x:4294967294:4294967294::/home/alice:/bin/bash', 4294967294],
    // -1 as an unsigned number: chown(2) would leave what is root's to root. Then 0 after an overflow.
    ['alice:x:4294967295:1001::/home/alice:/bin/bash', undefined],
    ['alice:x:1001:4294967295::/home/alice:/bin/bash', undefined],
    ['alice:x:4294967296:1001::/home/alice:/bin/bash', undefined],
    // Fields that users may write themselves in a directory: the comment and the shell.
    ['alice:x:1001:1001:x:/srv/private/bob:/bin/sh:/home/alice:/bin/bash', undefined],
    ['alice:x:1001:1001:Alice:/home/alice:/bin/bash:', undefined],
    ['alice:x:1001:1001:x:/srv/private/bob:/bin/sh\n:/home/alice:/bin/bash', undefined],
    ['alice:x:1001:1001:x:/srv/private/bob:/bin/sh\n', undefined],
    ['alice', undefined],
    ['', undefined],
  ])('%j has the uid %s', (line, uid) => expect(parsePasswd(line)?.uid).toBe(uid));
});

describe('nsswitch.conf', () => {
  it.each([
    ['group: files', true],
    ['group: files systemd', true],
    ['group: files [SUCCESS=merge] systemd', true],
    ['group: files sss', false],
    ['group: ldap', false],
    ['group: files\ninitgroups: sss', false],
    ['group: files\ninitgroups: files [SUCCESS=continue] systemd', true],
    [undefined, true],
  ])('%j has local groups only: %s', (text, expected) => expect(groupsAreLocal(text)).toBe(expected));
});
