/** Odd home directories in the directory service: they are refused before anything is done. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import { parsePasswd } from '../../src/linux/accounts.ts';
import type { Host } from '../../src/linux/host.ts';
import { homeProblem } from '../../src/session/home-problem.ts';
import { startRunSession } from '../../src/session/run-session.ts';
import { login } from '../../src/session/session.ts';
import { home } from '../../src/session/steps/home.ts';
import { probation, writeProbation } from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { pathsOf } from '../../src/state/paths.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const config = readConfig(preparedWorld().host, '/etc/mayfly/mayfly.toml');
const paths = pathsOf(config.directories);

describe('a home directory', () => {
  it.each([
    '/home/alice',
    '/home/lab.example/alice',
    '/srv/home/alice',
    '/var/home/alice',
    '/opt/people/alice',
    '/u/alice',
    '/kiosk',
    '/tmp/guest-x1y2z3',
    '/var/lib/guests/g1',
    '/etcetera',
    '/nonexistent',
    '/home/.../alice',
  ])('"%s" is accepted', home => expect(homeProblem(home, config, paths)).toBeUndefined());

  it.each([
    '',
    'home/alice',
    './home',
    '/srv/../../usr',
    '/home/alice/..',
    '/home/./alice',
    '/home//alice',
    '/home/alice/',
    '/home/\u001b[2Jalice',
  ])('%j is no normalized absolute path', home =>
    expect(homeProblem(home, config, paths)).toBe('is not a normalized absolute path'),
  );

  it.each(
    '/ /etc /etc/skel /usr /usr/share /bin /lib64 /boot/efi /dev /dev/shm /proc/1/root /sys /root /root/x /run /run/user/1001 /home /media /mnt /opt /srv /tmp /var /var/lib /var/tmp /var/lib/dpkg /var/log'.split(
      ' ',
    ),
  )('%s is a directory of the system', home =>
    expect(homeProblem(home, config, paths)).toBe('is a directory of the system'),
  );

  it('with more characters than a mount point has room for is refused', () => {
    expect(homeProblem(`/srv/${'h'.repeat(1019)}`, config, paths)).toBeUndefined();
    expect(homeProblem(`/srv/${'h'.repeat(1020)}`, config, paths)).toBe(
      'is too long: it has 1025 characters',
    );
  });

  it.each(['/var/lib/mayfly', '/var/lib/mayfly/pool/session/x'])('%s is a directory of Mayfly', home =>
    expect(homeProblem(home, config, paths)).toBe('is a directory of Mayfly'),
  );

  it.each([
    [{ mounts: { ...config.mounts, bind: ['/data/alice/usb'] } }, '/data/alice/usb'],
    [{ mounts: { ...config.mounts, rbind: ['/data/alice/net/x'] } }, '/data/alice/net/x'],
    [{ identity: { copy: ['/data/alice/machine'] } }, '/data/alice/machine'],
    [{ pool: { ...config.pool, path: '/data/alice/pool' } }, '/data/alice/pool'],
  ])('above %j is refused', (change, path) =>
    expect(homeProblem('/data/alice', { ...config, ...change }, paths)).toBe(
      `contains "${path}", which Mayfly mounts or writes`,
    ),
  );

  it('may be a mount of the configuration itself', () => {
    const mounts = { ...config.mounts, bind: ['/data/alice'] };
    expect(homeProblem('/data/alice', { ...config, mounts }, paths)).toBeUndefined();
  });

  it.each([
    ['/home/alice/', '/home/alice'],
    ['//home///alice//', '/home/alice'],
    ['/', '/'],
    ['', ''],
  ])('%j in passwd(5) is read as %j', (home, expected) =>
    expect(parsePasswd(`alice:x:1001:1001::${home}:/bin/sh`)?.home).toBe(expected),
  );
});

describe('a login with an odd home directory', () => {
  function worldOf(home: string): World {
    const w = preparedWorld();
    const { host, paths } = w.machine();
    w.put('/etc/passwd', `root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::${home}:/bin/sh\n`);
    w.makeDirs('/srv');
    writeProbation(host, paths, { number: 1, previous: 0, failures: 0 });
    w.newProcess();
    return w;
  }

  it.each([
    ['/etc', []],
    ['/etc', ['alice']],
    ['/srv/../../usr', []],
    ['/srv/../../usr', ['alice']],
    ['/', ['alice']],
    ['', ['alice']],
    ['/run/mayfly/roots', []],
  ])('%j (ephemeral for %j) is refused before anything is done', async (home, ephemeral) => {
    const w = worldOf(home);
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', `ephemeral_home = ${JSON.stringify(ephemeral)}\n`);
    const before = w.picture();
    const refused = { code: 'unsafe', message: expect.stringContaining(`the home directory "${home}"`) };
    const on = w.machine();
    await expect(login(on, callOf(w, 'alice', ':0'))).rejects.toMatchObject(refused);
    const { caller } = callOf(w, 'alice', ':0');
    const run = { adapter: 'lightdm' as const, display: ':0', caller, since: 0 };
    await expect(startRunSession(on, 'alice', run)).rejects.toMatchObject(refused);
    expect(w.picture()).toBe(before);
    expect(w.ran).toEqual([]);
    expect(probation(w.host, on.paths)?.failures).toBe(0); // the error of one account says nothing of the generation
  });
});

it('a home directory of the host that an ephemeral one replaces is not looked at', async () => {
  const w = preparedWorld();
  w.put('/etc/passwd', 'alice:x:1001:1001::/data/alice:/bin/sh\n');
  w.makeDirs('/data');
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', 'ephemeral_home = ["alice"]\n');
  const looked: string[] = [];
  const noted =
    <T>(look: (path: string) => T) =>
    (path: string): T => {
      looked.push(path);
      return look(path);
    };
  const on = w.machine();
  const { lstat, stat, readlink, pathType, exists } = on.host;
  const host = {
    ...on.host,
    lstat: noted(lstat),
    stat: noted(stat),
    readlink: noted(readlink),
    pathType: noted(pathType),
    exists: noted(exists),
  };
  expect((await login({ ...on, host }, callOf(w, 'alice', ':0')))?.state).toBe('live');
  expect(looked.filter(path => path.startsWith('/data'))).toEqual([]);
});

describe('a home directory of its own, reached through a symlink', () => {
  /** Alice's home directory is not in /home, and a symlink is on the way to it. */
  function linked(at: string, target: string, owner: number): { w: World; on: Machine } {
    const w = preparedWorld();
    w.put('/etc/passwd', 'alice:x:1001:1001::/data/alice/home:/bin/sh\n');
    for (const path of ['/data/alice', '/export/people/alice/home']) w.makeDirs(path);
    w.host.unlink(at);
    w.host.symlink(target, at);
    w.newProcess();
    const on = w.machine();
    const lstat: Host['lstat'] = path => {
      const there = on.host.lstat(path);
      return there && path === at ? { ...there, uid: owner } : there;
    };
    return { w, on: { ...on, host: { ...on.host, lstat } } };
  }

  it.each([
    ['/data/alice', '/export/people/alice'],
    ['/data/alice', '../export/./people/x/../alice'],
    ['/data/alice/home', '/export/people/alice/home'],
  ])('of root, is bound from where it leads: %s -> %s', async (at, target) => {
    const { w, on } = linked(at, target, 0);
    const s = await login(on, callOf(w, 'alice', ':0'));
    const mount = s?.mounts.find(m => m.target === `${s.root}/data/alice/home`);
    expect(mount).toMatchObject({ source: '/export/people/alice/home', type: 'none', plain: true });
  });

  it.each([
    ['/etc', '"/data/alice/home" of "alice" leads to "/etc", which is a directory of the system'],
    ['/run/mayfly/roots/u1002-00000001', 'which is a directory of the system'],
    ['/var/lib/mayfly/pool', '"/var/lib/mayfly/pool", which is a directory of Mayfly'],
    ['home', 'which cannot be followed'],
  ])('of root, is checked like any other: -> %s', async (target, message) => {
    const { w, on } = linked('/data/alice/home', target, 0);
    const refused = { code: 'unsafe', message: expect.stringContaining(message) };
    await expect(login(on, callOf(w, 'alice', ':0'))).rejects.toMatchObject(refused);
    expect(w.ran).toEqual([]);
  });

  it.each(['/export/people/alice/home', '/home/bob/private', '/var/lib/mayfly/pool'])(
    'of a user, is refused before anything is done: -> %s',
    async target => {
      const { w, on } = linked('/data/alice/home', target, 1001);
      const before = w.picture();
      const message =
        '"/data/alice/home" leads through the symlink "/data/alice/home", which does not belong to root';
      await expect(login(on, callOf(w, 'alice', ':0'))).rejects.toMatchObject({ code: 'unsafe', message });
      expect(w.picture()).toBe(before);
    },
  );
});

describe('a home directory that comes late, or is a symlink', () => {
  /** The machine with these directories, files ("f") and symlinks (with an owner), and alice's home directory in passwd(5). */
  function worldOf(home: string, there: Readonly<Record<string, string>>): { w: World; on: Machine } {
    const w = preparedWorld();
    w.put('/etc/passwd', `root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::${home}:/bin/sh\n`);
    w.host.rmdir('/home/alice');
    const owners = new Map<string, number>();
    for (const [path, what] of Object.entries(there)) {
      const [target = '', owner = '0'] = what.split(' ');
      if (target === 'd') w.makeDirs(path);
      else if (target === 'f') {
        w.makeDirs(path.slice(0, path.lastIndexOf('/')));
        w.put(path, '');
      } else {
        if (path !== '/home') w.host.symlink(target, path); // where something is mounted in this world
        owners.set(path, Number(owner));
      }
    }
    w.newProcess();
    const on = w.machine();
    const lstat: Host['lstat'] = path => {
      const found = on.host.lstat(path);
      const uid = owners.get(path);
      return found && uid !== undefined ? { ...found, kind: 'link', uid } : found;
    };
    const readlink: Host['readlink'] = path => (path === '/home' ? there[path] : on.host.readlink(path));
    return { w, on: { ...on, host: { ...on.host, lstat, readlink } } };
  }
  const stable = new Set([...config.mounts.bind, ...config.mounts.rbind]);

  it.each<[string, string, Readonly<Record<string, string>>, readonly string[]]>([
    ['below /home, later', '/home/alice', {}, []],
    ['deep below /home, later', '/home/lab/b/alice', { '/home/lab': 'd' }, []],
    ['elsewhere', '/data/alice', { '/data/alice': 'd' }, ['/data/alice']],
    ['elsewhere, later', '/data/alice', { '/data': 'd' }, ['/data']],
    ['deep elsewhere, later', '/data/b/c/alice', { '/data/b': 'd' }, ['/data/b']],
    ['in /srv, later', '/srv/alice', { '/srv': 'd' }, ['/srv']],
    ['none', '/nonexistent', {}, []],
    [
      'a link from /home',
      '/home/alice',
      { '/home/alice': '/data/alice', '/data/alice': 'd' },
      ['/data/alice'],
    ],
    ['a link from /home, later', '/home/alice', { '/home/alice': '/data/alice', '/data': 'd' }, ['/data']],
    ['a link within /home', '/home/alice', { '/home/alice': 'b/alice', '/home/b/alice': 'd' }, []],
    ['a link on the way', '/home/b/alice', { '/home/b': '/data/b', '/data/b/alice': 'd' }, ['/data/b/alice']],
    [
      'a link elsewhere, later',
      '/data/alice',
      { '/data': 'd', '/data/alice': '../export/alice', '/export': 'd' },
      ['/data', '/export'],
    ],
    ['/home a link of the host', '/home/alice', { '/home': '/data/home', '/data/home/alice': 'd' }, []],
    ['/home a link of the host, later', '/home/alice', { '/home': '/data/home', '/data/home': 'd' }, []],
    [
      'where the link /home leads',
      '/data/home/alice',
      { '/home': '/data/home', '/data/home/alice': 'd' },
      ['/data/home/alice'],
    ],
    [
      'a link of the user within /home',
      '/home/alice',
      { '/home/alice': '/home/b/alice 1001', '/home/b/alice': 'd' },
      [],
    ],
  ])('is reached: %s', async (_, home, there, expected) => {
    const { w, on } = worldOf(home, there);
    const s = await login(on, callOf(w, 'alice', ':0'));
    const own = (s?.mounts ?? []).filter(m => m.type === 'none' && !stable.has(m.source));
    expect(own.map(m => m.source)).toEqual(expected);
    for (const m of own) expect(m).toMatchObject({ options: 'rbind,rslave', plain: true });
  });

  it.each<[string, string, Readonly<Record<string, string>>, RegExp, string?]>([
    [
      'in the root directory, later',
      '/alice',
      {},
      /does not exist, and "\/", where it could be made later, is a directory of the system/,
    ],
    ['below it, later', '/people/b/alice', {}, /and "\/", where it could/, 'mkdir -p /people/b'],
    [
      'in a directory of packages, later',
      '/opt/people/alice',
      { '/opt': 'd' },
      /and "\/opt", where/,
      'mkdir -p /opt/people',
    ],
    ['beside the pool, later', '/var/lib/alice', { '/var/lib': 'd' }, /and "\/var\/lib", where/],
    ['a file', '/data/alice', { '/data/alice': 'f' }, /is not a directory/],
    ['a file below /home', '/home/alice', { '/home/alice': 'f' }, /is not a directory/],
    ['a link to a file', '/home/alice', { '/home/alice': '/data/x', '/data/x': 'f' }, /is not a directory/],
    [
      'a link to the system',
      '/home/alice',
      { '/home/alice': '/etc' },
      /leads to "\/etc", which is a directory of the system/,
    ],
    [
      'a link to another pool',
      '/home/alice',
      { '/home/alice': '/var/lib/mayfly/x' },
      /which is a directory of Mayfly/,
    ],
    [
      'a link of the user elsewhere',
      '/home/alice',
      { '/home/alice': '/data/bob 1001', '/data/bob': 'd' },
      /"\/home\/alice", which does not belong to root/,
    ],
    ['a link in a circle', '/home/alice', { '/home/alice': 'alice' }, /which cannot be followed/],
    [
      'a link through the root directory, later',
      '/alice',
      { '/alice': '/data/alice', '/data': 'd' },
      /"\/", where it could be made later/,
    ],
  ])('is refused before anything is done: %s', async (_, home, there, message, hint) => {
    const { w, on } = worldOf(home, there);
    const before = w.picture();
    const refused = { code: 'unsafe', message: expect.stringMatching(message) };
    const error = await login(on, callOf(w, 'alice', ':0')).catch(e => e);
    expect(error).toMatchObject(refused);
    if (hint !== undefined) expect(error.facts.hint).toBe(hint);
    expect(w.picture()).toBe(before);
  });
});

describe('files of the session are written to its own file system only', () => {
  /** Bound by the configuration, as a home directory could be before it was checked. */
  async function withBind(
    path: string,
    there = '/etc/sudoers.d',
  ): Promise<{ w: World; before: string | undefined; made: Promise<unknown> }> {
    const w = preparedWorld();
    w.makeDirs('/etc/mayfly');
    w.makeDirs(there);
    const tree = w.volumes.get('/var/lib/mayfly/pool/generation/1')?.nodes;
    const etc = tree?.get('/etc');
    if (etc) tree?.set('/etc/sudoers.d', etc);
    w.put('/etc/mayfly/mayfly.toml', `[mounts]\nbind = ["/proc", "${path}"]\n`);
    const before = w.host.read('/etc/passwd');
    return { w, before, made: login(w.machine(), callOf(w, 'alice', ':0')) };
  }

  it.each(['/etc', '/etc/sudoers.d'])('not to the host’s %s', async path => {
    const { w, before, made } = await withBind(path);
    const message = `"${path}" in the session is not a directory of its own file system; cannot write to it`;
    await expect(made).rejects.toMatchObject({ code: 'unsafe', message });
    expect(w.host.read('/etc/passwd')).toBe(before);
    expect(w.host.lstat('/etc/mayfly-session')).toBeUndefined();
    expect(w.host.list('/etc/sudoers.d')).toEqual([]);
  });

  it('not to the host’s /run/systemd', async () => {
    const { w, made } = await withBind('/run/systemd', '/run/systemd');
    await made;
    expect(w.host.lstat('/run/systemd/system')).toBeUndefined();
  });

  it('not to what is mounted in the place of an ephemeral home directory', async () => {
    const w = preparedWorld();
    const s = await login(w.machine(), callOf(w, 'alice', ':0'));
    if (!s) throw new Error('out of scope');
    w.makeDirs(`${s.root}/etc/skel`);
    const target = `${s.root}/home/alice`; // the host's
    const ephemeral = { ...s, mounts: [{ source: 'mayfly', target, type: 'tmpfs', options: '' }] };
    w.ran.length = 0;
    const refused = { code: 'unsafe', message: `"${target}" is not a directory of the session` };
    await expect(home.up(ephemeral, w.machine())).rejects.toMatchObject(refused);
    expect(w.ran).toEqual([]);
  });
});
