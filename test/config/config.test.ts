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
import { realHost } from '../../src/linux/real-host.ts';
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

  it('refuses a named file that does not exist, also if conf.d beside it does', async () => {
    const world = new World();
    world.makeDirs('/srv/conf.d');
    world.put('/srv/conf.d/a.toml', 'min_uid = 5');
    const missing = { code: 'config', message: 'there is no configuration file "/srv/typo.toml"' };
    await expect(loadConfig(world.host, '/srv/typo.toml')).rejects.toMatchObject(missing);
    world.put('/srv/typo.toml', '');
    expect((await loadConfig(world.host, '/srv/typo.toml')).min_uid).toBe(5);
    world.host.unlink('/srv/typo.toml'); // the cache must not hide that
    await expect(loadConfig(world.host, '/srv/typo.toml')).rejects.toMatchObject(missing);
    expect((await loadConfig(world.host, '/srv/typo.toml', true)).min_uid).toBe(5); // a logout
  });

  it.each([
    ['nam = 1', /mayfly\.toml:1: unknown option "nam"/, /min_uid|known here/],
    ['\n\n[pool]\nbackend = "zfs"', /mayfly\.toml:4: "pool\.backend" is not valid/, /shipped file/],
    ['[pool]\nbakend = "btrfs"', /mayfly\.toml:2: unknown option "pool\.bakend"/, /did you mean "backend"/],
    ['min_uid = "1000"', /mayfly\.toml:1: "min_uid" is not valid/, /shipped/],
    ['exclude = [1]', /mayfly\.toml:1: "exclude" is not valid/, /shipped/],
    ['exclude = ["a b"]', /mayfly\.toml:1: "exclude" is not valid: a user name/, /shipped/],
    ['[pool\n', /mayfly\.toml:1: not valid TOML/, /quotes/],
    ['min_uid = 1\nmin_uid = 2', /mayfly\.toml:2: not valid TOML/, /quotes/],
    [
      '[directories]\nstate = "/var/../etc"',
      /mayfly\.toml:2: "directories\.state" is not valid: an absolute path/,
      /shipped/,
    ],
    ['[directories]\nrun = "/r"\nstate = "/r/state"', /must not be in "directories\.run"/, /another/],
    ['[init]\nsuite = "/x"', /:2: "init\.suite" is not valid: the name of a Debian release/, /shipped/],
    ['[mounts]\nrbind = ["/a b"]', /mayfly\.toml:2: "mounts\.rbind" is not valid/, /shipped/],
    ['[logout]\ngrace = -1', /mayfly\.toml:2: "logout\.grace" is not valid/, /shipped/],
    [
      '[admission]\nmin_free = "lots"',
      /mayfly\.toml:2: "admission\.min_free" is not valid: a size/,
      /shipped/,
    ],
    ['root_users = ["*"]', /:1: "root_users" is not valid: .*"\*" has no meaning/, /shipped/],
    ['min_uid = "1000"', /is not valid: a number, without quotes$/, /shipped/],
    ['min_uid = 1.5', /is not valid: a whole number$/, /shipped/],
    ['min_uid = 2026-01-01', /is not valid: a number, without quotes$/, /shipped/],
    ['pool = 1', /is not valid: a table, .*\[NAME\]/, /shipped/],
    ['include = "x"', /is not valid: a list, in \[ \]$/, /shipped/],
    ['include = [1]', /is not valid: words in quotes$/, /shipped/],
    ['on_failure = "x"', /is not valid: one of "refuse", "host"$/, /shipped/],
    ['[update]\nkeep = 0', /:2: "update\.keep" is not valid: a number of at least 1$/, /shipped/],
    ['[update]\nkeep = 1001', /is not valid: a number of at most 1000$/, /shipped/],
    ['[check]\ncommand = []', /is not valid: a command$/, /shipped/],
    ['[lvm]\ngroup = "a b"', /is not valid: a name of letters/, /shipped/],
    ...['[overlay]\nsize', '[home]\nsize', '[mounts]\nrun_size'].flatMap(option =>
      ['1.5G', '0', '0M', '0%', '1000%', '10P', '5%G', '-1'].map(
        size => [`${option} = "${size}"`, /:2: ".*size" is not valid: .*; not zero$/, /shipped/] as const,
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

  it.each(['1', '512M', '20G', '1%', '150%'])('accepts %j as the size of a tmpfs', size =>
    expect(read(`[mounts]\nrun_size = "${size}"`).mounts.run_size).toBe(size),
  );

  it('gives later files precedence, key by key, and names the file with an error', () => {
    const config = read('[logout]\ngrace = 1\nkill_timeout = 2', {
      'a.toml': '[logout]\ngrace = 3',
      'b.txt': 'nonsense = 1',
    });
    expect(config.logout).toEqual({ grace: 3, kill_timeout: 2, on_stuck: 'keep' });
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
    expect(last.logout).toEqual({ ...logout, grace: 7 });
    const { files, directory, ...defaults } = withDefaults(FILE);
    expect([files, directory]).toEqual([[], '/etc/mayfly']);
    expect(defaults).toEqual(rest(readConfig(new World().host, FILE)));
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
      expect(read).toThrow('is a symlink that leads to no file');
      symlinkSync('a.toml', `${at}/conf.d/b.toml`); // now it is a loop
      expect(read).toThrow('is a symlink that leads to no file');
      rmSync(`${at}/conf.d/b.toml`);
      symlinkSync('/dev/null', `${at}/conf.d/b.toml`);
      expect(read).toThrow('is no file');
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
