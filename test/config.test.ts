import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { lineOf, readConfig } from '../src/config-load.ts';
import { World } from './world.ts';

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

  it('takes no other file that is not there for the defaults, whatever is beside it', async () => {
    const world = new World();
    world.makeDirs('/srv/conf.d');
    world.put('/srv/conf.d/a.toml', 'min_uid = 5');
    const missing = { code: 'config', message: 'there is no configuration file "/srv/typo.toml"' };
    await expect(loadConfig(world.host, '/srv/typo.toml')).rejects.toMatchObject(missing);
    world.put('/srv/typo.toml', '');
    expect((await loadConfig(world.host, '/srv/typo.toml')).min_uid).toBe(5);
    world.host.unlink('/srv/typo.toml'); // known by the cache no more
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
  ])('%j is refused with file, line and hint', (text, message, hint) => {
    try {
      read(text);
      expect.unreachable();
    } catch (error) {
      expect(String(error)).toMatch(message);
      expect((error as { facts: { hint: string } }).facts.hint).toMatch(hint);
    }
  });

  it('lets later files win, key by key, and names the file an error is in', () => {
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
  ])('in %j, %j stands on line %i', (text, keys, line) => expect(lineOf(text, keys)).toBe(line));

  it('is read from the cache until a source changes, and never from a cache others can write', async () => {
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

  it('is shown in full, with its defaults, by the shipped file', () => {
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

function optionsOf(value: object): string[] {
  return Object.entries(value).flatMap(([key, v]) =>
    typeof v === 'object' && !Array.isArray(v) ? optionsOf(v as object) : [key],
  );
}
