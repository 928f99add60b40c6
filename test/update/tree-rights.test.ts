/** Trees that were made without the rights that root gives: owners and set-id bits. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import { builtIn, builtInOptional } from '../../src/update/built-in-checks.ts';
import { describeLostBits, lostBits, ownerProblem } from '../../src/update/tree-rights.ts';
import { preparedWorld, World } from '../world.ts';

const GROUPS = 'root:x:0:\nshadow:x:42:\ncrontab:x:105:\n';
const config = readConfig(new World().host, '/etc/mayfly/mayfly.toml');

type Entry = readonly [mode: number, uid?: number, gid?: number];

/** A tree as Debian makes it, at /tree, with these rights instead. */
function treeWith(
  rights: Readonly<Record<string, Entry>> = {},
  overrides = '',
  w = new World(),
  at = '/tree',
) {
  const all: Record<string, Entry> = {
    '/usr/bin/sudo': [0o4755],
    '/usr/bin/su': [0o4755],
    '/usr/bin/passwd': [0o4755],
    '/usr/sbin/unix_chkpwd': [0o2755, 0, 42],
    '/usr/bin/crontab': [0o2755, 0, 105],
    '/usr/lib/polkit-1/polkit-agent-helper-1': [0o4755],
    '/etc/sudoers': [0o440],
    ...rights,
  };
  for (const [path, [mode, uid = 0, gid = 0]] of Object.entries(all)) {
    w.makeDirs(at + path.slice(0, path.lastIndexOf('/')));
    if (w.host.lstat(at + path)?.kind !== 'dir') w.put(at + path, 'x', mode);
    w.chown(at + path, uid, mode, gid);
  }
  w.makeDirs(`${at}/var/lib/dpkg`);
  w.put(`${at}/var/lib/dpkg/statoverride`, overrides);
  w.put(`${at}/etc/group`, GROUPS);
  return w;
}

describe('the owners of a tree', () => {
  it.each<[string, Readonly<Record<string, Entry>>, string | undefined]>([
    ['as they should be', {}, undefined],
    [
      'of whoever has extracted it',
      { '': [0o755, 1000, 1000], '/etc': [0o755, 1000, 1000], '/usr/bin': [0o755, 1000] },
      '"/", "/etc", "/usr/bin" do not belong to root',
    ],
    [
      'of nobody, as file servers give them',
      { '/etc': [0o755, 65534, 65534] },
      '"/etc" does not belong to root',
    ],
    ['of a system account', { '/usr/lib': [0o755, 105] }, '"/usr/lib" does not belong to root'],
    ['of a person, of one file', { '/etc/sudoers': [0o440, 1000] }, '"/etc/sudoers" does not belong to root'],
    ['of root, where others can write', { '/etc': [0o777] }, 'users can write to "/etc"'],
    [
      'of root, where the group of a person can write',
      { '/usr': [0o775, 0, 1000] },
      'users can write to "/usr"',
    ],
    ['of root, where the group of root can write', { '/usr': [0o775] }, undefined],
  ])('%s', (_, rights, expected) => {
    const found = ownerProblem(treeWith(rights).host, config, '/tree');
    const rest = ': a tree must be made by root, with its owners ("tar -xp", "cp -a")';
    expect(found).toBe(expected === undefined ? undefined : expected + rest);
  });

  it('are not looked for behind a symlink of a merged /usr, nor in what is mounted there', () => {
    const w = treeWith();
    w.makeDirs('/host');
    w.chown('/host', 1000, 0o755);
    w.host.symlink('/host', '/tree/bin');
    w.mountEmpty('/tree/boot');
    w.chown('/tree/boot', 1000, 0o755);
    expect(ownerProblem(w.host, config, '/tree')).toBeUndefined();
  });
});

describe('the set-id bits of a tree', () => {
  it.each<[string, Readonly<Record<string, Entry>>, string, readonly string[]]>([
    ['are all there', {}, '', []],
    [
      'are lost',
      { '/usr/bin/sudo': [0o755], '/usr/sbin/unix_chkpwd': [0o755], '/usr/bin/crontab': [0o755] },
      '',
      ['/usr/bin/sudo', '/usr/sbin/unix_chkpwd', '/usr/bin/crontab'],
    ],
    ['are those of somebody else', { '/usr/bin/sudo': [0o4755, 1000] }, '', ['/usr/bin/sudo']],
    [
      'are those of another group',
      { '/usr/sbin/unix_chkpwd': [0o2755, 0, 0] },
      '',
      ['/usr/sbin/unix_chkpwd'],
    ],
    ['are those of root instead of a group', { '/usr/sbin/unix_chkpwd': [0o4755] }, '', []],
    ['are taken away by the administrator', { '/usr/bin/su': [0o755] }, 'root root 755 /usr/bin/su\n', []],
    ['are taken away under the older path', { '/usr/bin/su': [0o755] }, 'root root 755 /bin/su\n', []],
    [
      'are taken away from another program',
      { '/usr/bin/su': [0o755] },
      'root root 755 /usr/bin/sudo\n',
      ['/usr/bin/su'],
    ],
    ['are lost in /bin of a tree without a merged /usr', { '/bin/su': [0o755] }, '', ['/bin/su']],
    [
      'are no longer needed by a later version',
      {
        '/usr/lib/polkit-1/polkit-agent-helper-1': [0o755],
        '/usr/lib/systemd/system/polkit-agent-helper.socket': [0o644],
      },
      '',
      [],
    ],
  ])('%s', (_, rights, overrides, expected) => {
    expect(lostBits(treeWith(rights, overrides).host, '/tree').map(l => l.path)).toEqual(expected);
  });

  it('of a program that is not installed, or is a symlink, are not missed', () => {
    const w = treeWith();
    w.host.unlink('/tree/usr/bin/sudo');
    w.host.symlink('/etc/alternatives/sudo', '/tree/usr/bin/sudo');
    w.host.unlink('/tree/usr/bin/crontab');
    expect(lostBits(w.host, '/tree')).toEqual([]);
  });

  it('are described with what follows', () => {
    expect(describeLostBits([{ path: '/usr/bin/su', needed: true }])).toBe(
      '"/usr/bin/su" has lost the set-id bit or its owner, without which nobody unlocks a screen or becomes root; if this is intended, say so with dpkg-statoverride',
    );
    expect(
      describeLostBits([
        { path: '/a', needed: false },
        { path: '/b', needed: false },
      ]),
    ).toMatch(/^"\/a", "\/b" have lost the set-id bit or its owner; if/);
  });
});

describe('a generation', () => {
  const rights = builtIn.find(c => c.name === 'rights');
  const optional = builtInOptional.find(c => c.name === 'set-id bits');
  const unused = async () => ({ code: 0, stdout: '', stderr: '' });

  /** What the checks say of a generation, whose master has these rights. */
  async function say(candidate: Readonly<Record<string, Entry>>, master?: Readonly<Record<string, Entry>>) {
    const w = preparedWorld();
    treeWith(candidate, '', w);
    const on = w.machine();
    if (master) {
      treeWith(master, '', w, '/master');
      const backend = on.backend('overlay');
      Object.assign(backend, { path: () => '/master', identity: async () => 'x' });
      Object.assign(on, { backend: () => backend });
    } else w.host.unlink(on.paths.poolFile);
    const s = { root: '/tree' } as never;
    return [await rights?.problem(unused, s, on), await optional?.problem(unused, s, on)];
  }
  const lost = { '/usr/bin/sudo': [0o755] } as const;

  it('that loses a bit in an update is refused', async () =>
    expect((await say(lost, {}))[0]).toMatch(/^"\/usr\/bin\/sudo" has lost/));
  it('that lacks one which master lacks, too, is named', async () =>
    expect(await say(lost, lost)).toEqual([
      undefined,
      expect.stringMatching(/^"\/usr\/bin\/sudo" has lost/),
    ]));
  it('of init that lacks one is refused', async () =>
    expect((await say(lost))[0]).toMatch(/^"\/usr\/bin\/sudo" has lost/));
  it('that has lost a bit which few need is named', async () =>
    expect(await say({ '/usr/bin/crontab': [0o755] }, {})).toEqual([
      undefined,
      expect.stringMatching(/^"\/usr\/bin\/crontab" has lost the set-id bit or its owner; if/),
    ]));
  it('whose /etc belongs to a person is refused, also if that of master does', async () =>
    expect((await say({ '/etc': [0o755, 1000] }, { '/etc': [0o755, 1000] }))[0]).toMatch(
      /^"\/etc" does not/,
    ));
  it('as Debian makes it is content', async () => expect(await say({}, {})).toEqual([undefined, undefined]));
});
