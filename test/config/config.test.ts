import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { lineOf, readConfig, toToml, withDefaults } from '../../src/config/parse.ts';
import { groupPath } from '../../src/linux/cgroup.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { pathsOf } from '../../src/state/paths.ts';
import { World } from '../world.ts';

const FILE = '/etc/mayfly/mayfly.toml';

function read(text: string, parts: Record<string, string> = {}) {
  const world = new World();
  world.makeDirs('/etc/mayfly/conf.d');
  world.put(FILE, text);
  for (const [name, part] of Object.entries(parts)) world.put(`/etc/mayfly/conf.d/${name}`, part);
  return readConfig(world.host, FILE);
}

describe('configuration', () => {
  it('has a default for everything', () => {
    const { files, directory, ...values } = readConfig(new World().host, FILE);
    expect(files).toEqual([]);
    expect(directory).toBe('/etc/mayfly');
    expect(values.pool.backend).toBe('overlay');
    expect(values.exclude).toEqual(['root']);
  });

  it.each([
    '',
    'min_uid = 5\nexclude = ["o\'hara", "@\\u00e4"]\n[update]\ncommand = ["sh", "-c", "echo \\"a\\\\b\\""]\n',
  ])('is shown as a file with the same meaning: %j', text => {
    const config = read(text);
    expect(read(toToml(config))).toEqual(config);
  });

  it('has the paths that sessions show where they are in every system', () => {
    const list = '["/var/run/nvidia-persistenced/socket", "/var/lock/lab", "/var/running", "/run/x"]';
    const { mounts } = read(`[mounts]\nbind = ${list}\nrbind = ["/var/run/user"]\n`);
    expect(mounts.bind).toEqual([
      '/run/nvidia-persistenced/socket',
      '/run/lock/lab',
      '/var/running',
      '/run/x',
    ]);
    expect(mounts.rbind).toEqual(['/run/user']);
  });

  it('refuses a named file that does not exist, also if conf.d beside it does', async () => {
    const world = new World();
    world.makeDirs('/srv/conf.d');
    world.put('/srv/conf.d/a.toml', 'min_uid = 5');
    const missing = { code: 'config', message: 'the configuration file "/srv/typo.toml" does not exist' };
    await expect(loadConfig(world.host, '/srv/typo.toml')).rejects.toMatchObject(missing);
    world.put('/srv/typo.toml', '');
    expect((await loadConfig(world.host, '/srv/typo.toml')).min_uid).toBe(5);
    world.host.unlink('/srv/typo.toml'); // the cache must not hide that
    await expect(loadConfig(world.host, '/srv/typo.toml')).rejects.toMatchObject(missing);
    expect((await loadConfig(world.host, '/srv/typo.toml', true)).min_uid).toBe(5); // a logout
  });

  it.each([
    ['nam = 1', /mayfly\.toml:1: unknown option "nam"/, /min_uid|valid options/],
    ['\n\n[pool]\nbackend = "zfs"', /mayfly\.toml:4: invalid "pool\.backend"/, /man mayfly\.toml/],
    ['[pool]\nbakend = "btrfs"', /mayfly\.toml:2: unknown option "pool\.bakend"/, /did you mean "backend"/],
    ['min_uid = "1000"', /mayfly\.toml:1: invalid "min_uid"/, /man mayfly\.toml/],
    ['exclude = [1]', /mayfly\.toml:1: invalid "exclude"/, /man mayfly\.toml/],
    ['exclude = ["a b "]', /mayfly\.toml:1: invalid "exclude": expected a user name/, /man mayfly\.toml/],
    ['[pool\n', /mayfly\.toml:1: invalid TOML/, /quotes/],
    ['min_uid = 1\nmin_uid = 2', /mayfly\.toml:2: invalid TOML/, /quotes/],
    [
      '[directories]\nstate = "/var/../etc"',
      /mayfly\.toml:2: invalid "directories\.state": expected an absolute path/,
      /man mayfly\.toml/,
    ],
    ['[directories]\nrun = "/r"\nstate = "/r/state"', /must not be in "directories\.run"/, /another/],
    [
      '[init]\nsuite = "/x"',
      /:2: invalid "init\.suite": expected the name of a Debian release/,
      /man mayfly\.toml/,
    ],
    ['[init]\nkeep = ["/a/../b"]', /mayfly\.toml:2: invalid "init\.keep"/, /man mayfly\.toml/],
    ['[init]\nkeep = ["a"]', /mayfly\.toml:2: invalid "init\.keep"/, /man mayfly\.toml/],
    ['[mounts]\nrbind = ["/a b"]', /mayfly\.toml:2: invalid "mounts\.rbind"/, /man mayfly\.toml/],
    ['[logout]\ngrace = -1', /mayfly\.toml:2: invalid "logout\.grace"/, /man mayfly\.toml/],
    [
      '[admission]\nmin_free = "lots"',
      /mayfly\.toml:2: invalid "admission\.min_free": expected a size/,
      /man mayfly\.toml/,
    ],
    ['root_users = ["*"]', /:1: invalid "root_users": .*"\*" is not allowed/, /man mayfly\.toml/],
    ['min_uid = "1000"', /: expected a number without quotes$/, /man mayfly\.toml/],
    ['min_uid = 1.5', /: expected an integer$/, /man mayfly\.toml/],
    ['min_uid = 2026-01-01', /: expected a number without quotes$/, /man mayfly\.toml/],
    ['pool = 1', /: expected a table: .*\[NAME\]/, /man mayfly\.toml/],
    ['include = "x"', /: expected a list in \[ \]$/, /man mayfly\.toml/],
    ['include = [1]', /: expected a string in quotes$/, /man mayfly\.toml/],
    ['on_failure = "x"', /: expected one of "refuse", "host"$/, /man mayfly\.toml/],
    [
      '[update]\nkeep = 0',
      /:2: invalid "update\.keep": expected a number of at least 1$/,
      /man mayfly\.toml/,
    ],
    ['[update]\nkeep = 1001', /: expected a number of at most 1000$/, /man mayfly\.toml/],
    ['[check]\ncommand = []', /: expected a command$/, /man mayfly\.toml/],
    [
      `[pool]\npath = "/${'p/'.repeat(512)}p"`,
      /"pool.path": too long: at most 1024 characters/,
      /man mayfly/,
    ],
    [
      `[mounts]\nbind = ["/${'b'.repeat(256)}"]`,
      /: a name in it is too long: at most 255 char/,
      /man mayfly/,
    ],
    [
      `[directories]\nrun = "/run/${'r'.repeat(224)}"`,
      /"directories.run": too long: at most 228 /,
      /man mayfly/,
    ],
    ...['/a,b', '/a:b', '/a b', '/a\\\\b', '/a/../b', '/a/./b', '/..', '/a//b', 'a', '/a/'].map(
      path =>
        [`[pool]\npath = "${path}"`, /: expected an absolute path of letters, digits/, /man mayfly/] as const,
    ),
    ['[lvm]\ngroup = "a b"', /: expected a name of letters/, /man mayfly\.toml/],
    ...['[overlay]\nsize', '[home]\nsize', '[mounts]\nrun_size'].flatMap(option =>
      ['1.5G', '0', '0M', '0%', '1000%', '10P', '5%G', '-1'].map(
        size => [`${option} = "${size}"`, /:2: invalid ".*size": .*; not zero$/, /man mayfly\.toml/] as const,
      ),
    ),
  ] as const)('refuses %j with file, line and hint', (text, message, hint) => {
    try {
      read(text);
      expect.unreachable();
    } catch (error) {
      expect(String(error)).toMatch(message);
      expect((error as { facts: { hint: string } }).facts.hint).toMatch(hint);
    }
  });

  it('accepts paths whose longest names the kernel does', () => {
    const run = `/run/${'r'.repeat(223)}`;
    const bind = [`/${'b'.repeat(255)}`, '/run/.heim_org.h5l.kcm-socket', '/a/..b/.c'];
    const config = read(`[directories]\nrun = "${run}"\n[mounts]\nbind = ${JSON.stringify(bind)}`);
    expect(config.mounts.bind).toEqual(bind);
    const group = groupPath('', pathsOf(config.directories).cgroup, 'u4294967295-00000000');
    expect(group.length - 1).toBe(255);
  });

  it.each(['1', '512M', '20G', '1%', '150%'])('accepts %j as the size of a tmpfs', size =>
    expect(read(`[mounts]\nrun_size = "${size}"`).mounts.run_size).toBe(size),
  );

  it('gives later files precedence, key by key, and names the file with an error', () => {
    const config = read('[logout]\ngrace = 1\nkill_timeout = 2', {
      'a.toml': '[logout]\ngrace = 3',
      'b.txt': 'nonsense = 1',
    });
    expect(config.logout).toEqual({ grace: 3, kill_timeout: 2, on_stuck: 'keep', max_stuck: 3 });
    expect(() => read('', { 'z.toml': 'x = 1' })).toThrow(/conf\.d\/z\.toml:1/);
  });

  it.each([
    ['a = 1\n[t]\nb = 2', ['t', 'b'], 3],
    ['a = 1\n[t.u]\nb = 2', ['t', 'u', 'b'], 3],
    ['t.b = 2', ['t', 'b'], 1],
    ['[ "t" ]\n"b" = 2', ['t', 'b'], 2],
    ['[t]\na = 1', ['t', 'b'], 1],
  ])('finds in %j the option %j on line %i', (text, keys, line) => expect(lineOf(text, keys)).toBe(line));

  it('is read from the cache until a file changes, and never from a cache that others can write', async () => {
    const world = new World();
    world.makeDirs('/etc/mayfly');
    world.put(FILE, 'min_uid = 5');
    world.makeDirs('/run/mayfly');
    expect((await loadConfig(world.host, FILE)).min_uid).toBe(5);
    const cache = '/run/mayfly/config.json';
    const text = world.host.read(cache)?.replace('"min_uid":5', '"min_uid":6') ?? '';
    world.host.write(cache, text, { mode: 0o600 });
    expect((await loadConfig(world.host, FILE)).min_uid).toBe(6);
    world.host.write(cache, text, { mode: 0o666 });
    expect((await loadConfig(world.host, FILE)).min_uid).toBe(5);
    world.host.write(cache, text.slice(0, 20), { mode: 0o600 });
    expect((await loadConfig(world.host, FILE)).min_uid).toBe(5);
    world.put(FILE, 'min_uid = 77');
    expect((await loadConfig(world.host, FILE)).min_uid).toBe(77);
  });

  it('falls back to the last valid one, with defaults for options that its version did not know', async () => {
    const world = new World();
    world.makeDirs('/etc/mayfly');
    world.makeDirs('/run/mayfly');
    world.put(FILE, 'min_uid = 5');
    const { greeter: _, logout, ...known } = await loadConfig(world.host, FILE);
    const config = { ...known, logout: { grace: 7 } };
    world.host.write('/run/mayfly/config.json', JSON.stringify({ key: 'old', config }), { mode: 0o600 });
    world.put(FILE, 'min_uid = "wrong"');
    await expect(loadConfig(world.host, FILE)).rejects.toThrow(/min_uid/);
    const last = await loadConfig(world.host, FILE, true);
    expect(last).toMatchObject({ min_uid: 5, greeter: { host_sessions: 'staff' }, directory: '/etc/mayfly' });
    expect(last.invalid).toMatch(/mayfly\.toml:1: invalid "min_uid": .*\(.*\)$/);
    expect(last.logout).toEqual({ ...logout, grace: 7 });
    const { files, directory, ...defaults } = withDefaults(FILE);
    expect([files, directory]).toEqual([[], '/etc/mayfly']);
    expect(defaults).toEqual(rest(readConfig(new World().host, FILE)));
  });

  it('falls back to the last valid one after a restart of the machine, if only root could have written it', async () => {
    const world = new World();
    for (const directory of ['/etc/mayfly', '/run/mayfly', '/var/lib/mayfly']) world.makeDirs(directory);
    world.put(FILE, 'min_uid = 5');
    await loadConfig(world.host, FILE);
    world.host.unlink('/run/mayfly/config.json');
    world.put(FILE, 'min_uid = "wrong"');
    await expect(loadConfig(world.host, FILE)).rejects.toThrow(/min_uid/);
    expect(await loadConfig(world.host, FILE, true)).toMatchObject({
      min_uid: 5,
      invalid: expect.any(String),
    });
    await expect(loadConfig(world.host, '/etc/other.toml', true)).rejects.toThrow('does not exist');
    const kept = '/var/lib/mayfly/config.json';
    world.host.write(kept, world.host.read(kept) ?? '', { mode: 0o622 });
    await expect(loadConfig(world.host, FILE, true)).rejects.toThrow(/min_uid/);
    world.put(FILE, 'min_uid = 6');
    expect((await loadConfig(world.host, FILE, true)).invalid).toBeUndefined();
  });

  it('names a file that exists but cannot be read, and does not hang', () => {
    const at = mkdtempSync(`${tmpdir()}/mayfly-`);
    try {
      mkdirSync(`${at}/conf.d/a.toml`, { recursive: true });
      writeFileSync(`${at}/mayfly.toml`, '');
      const read = () => readConfig(realHost(), `${at}/mayfly.toml`);
      expect(read).toThrow(`"${at}/conf.d/a.toml" is a directory`);
      rmSync(`${at}/conf.d/a.toml`, { recursive: true });
      symlinkSync('b.toml', `${at}/conf.d/a.toml`);
      expect(read).toThrow('is a broken symlink');
      symlinkSync('a.toml', `${at}/conf.d/b.toml`); // now it is a loop
      expect(read).toThrow('is a broken symlink');
      rmSync(`${at}/conf.d/b.toml`);
      symlinkSync('/dev/null', `${at}/conf.d/b.toml`);
      expect(read).toThrow('is not a file');
      rmSync(`${at}/conf.d/b.toml`);
      writeFileSync(`${at}/conf.d/b.toml`, 'min_uid = 5');
      expect(read().min_uid).toBe(5);
    } finally {
      rmSync(at, { recursive: true });
    }
  });

  it('is documented completely, with its defaults, by the shipped file', () => {
    const file = 'config/mayfly.toml';
    expect(existsSync(file)).toBe(true);
    const shipped = readFileSync(file, 'utf8');
    const uncommented = shipped.replace(/^# ?([a-z_]+ = )/gm, '$1');
    const { files: _, directory: _d, ...values } = read(uncommented);
    const { files: __, directory: __d, ...defaults } = readConfig(new World().host, FILE);
    expect(values).toEqual(defaults);
    for (const option of optionsOf(defaults)) expect(shipped).toMatch(new RegExp(`^# ?${option} = `, 'm'));
  });
});

function rest({ files: _, directory: __, ...options }: Config) {
  return options;
}

function optionsOf(value: object): string[] {
  return Object.entries(value).flatMap(([key, v]) =>
    typeof v === 'object' && !Array.isArray(v) ? optionsOf(v as object) : [key],
  );
}
