/** Configuration files that nobody would write: each is refused with file and line, or read as it was meant. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { readConfig, toToml } from '../../src/config/parse.ts';
import { MayflyError } from '../../src/errors.ts';
import { isMember } from '../../src/session/scope.ts';
import { parseSize } from '../../src/size.ts';
import { cases } from '../campaign.ts';
import { World } from '../world.ts';

const FILE = '/etc/mayfly/mayfly.toml';
const world = new World();
world.makeDirs('/etc/mayfly/conf.d');

/** The configuration in these texts: of the file, and of one in `conf.d`. */
function read(text: string, part = ''): Config {
  world.put(FILE, text);
  world.put('/etc/mayfly/conf.d/part.toml', part);
  return readConfig(world.host, FILE);
}

const defaults = read('');

/** What is thrown must name the file and a line of it. */
function readOrRefuse(text: string, part = ''): Config | undefined {
  try {
    return read(text, part);
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error;
    expect(error.code).toBe('config');
    const { file, line, hint } = error.facts;
    expect([FILE, '/etc/mayfly/conf.d/part.toml']).toContain(file);
    const lines = (file === FILE ? text : part).split('\n').length;
    expect(typeof line === 'number' && line >= 1 && line <= lines, `line ${line} of ${lines}`).toBe(true);
    expect(hint).toMatch(/./);
    return undefined;
  }
}

const CONTROL = /\p{Cc}/u;
const PATH = /^(\/(?!\.{1,2}(\/|$))[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*)+$/;

/** What root does with an accepted configuration rests on this. */
function mustBeSafe(c: Config): void {
  const { directories, pool, mounts, identity, lvm, update } = c;
  const paths = [
    ...[directories.state, directories.run, directories.schroot, pool.path],
    ...[...mounts.bind, ...mounts.rbind, ...identity.copy],
  ];
  for (const path of paths) {
    expect(path).toMatch(PATH);
    expect(path.split('/')).not.toContain('..');
  }
  for (const name of [...c.include, ...c.exclude, ...c.root_users, ...c.sudo, ...c.ephemeral_home])
    expect(
      /^(\*|@?[^@/:,\s-](?:[^/:,\s]| (?!$| ))*)$/.test(name) && !CONTROL.test(name),
      JSON.stringify(name),
    ).toBe(true);
  expect(c.root_users).not.toContain('*');
  expect(/^[^\s/:,@-](?:[^\s/:,]| (?!$| ))*$/.test(c.check.user) && !CONTROL.test(c.check.user)).toBe(true);
  for (const name of [lvm.name, ...update.packages, ...update.protect, ...c.init.packages])
    expect(/^[^\s/:,@-][^\s/:,]*$/.test(name) && !CONTROL.test(name), JSON.stringify(name)).toBe(true);
  for (const text of [
    lvm.group,
    c.init.suite,
    update.proxy,
    ...update.sources.map(line => line.replaceAll('\t', ' ')),
  ])
    expect(CONTROL.test(text), JSON.stringify(text)).toBe(false);
  for (const size of [pool.image_size, lvm.volume_size, c.admission.min_free])
    expect(parseSize(size)).toBeGreaterThanOrEqual(0);
  for (const n of [c.hook.timeout, c.logout.grace, c.logout.kill_timeout, update.timeout, c.check.timeout])
    expect(Number.isFinite(n) && n >= 0).toBe(true);
  expect(Object.isFrozen(c)).toBe(true);
  // The cache keeps it as JSON.
  expect(JSON.parse(JSON.stringify(c))).toEqual(c);
}

/** Characters that mean something to a terminal, a line, a path or a list. */
const unit = fc.oneof(
  fc.integer({ min: 0, max: 0xa0 }).map(n => String.fromCharCode(n)),
  fc.constantFrom('/', ':', ',', '@', '*', '.', '..', '/../', '"', "'", '\u2028', '\u202e', '🐈'),
);
const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.constantFrom('', '*', '@staff', '@', 'alice', '/srv/x', '/', '/../etc', '10G', '50%', '-1', 'a\u001bb'),
  fc.constantFrom('a\u0085b', 'a\u007f', 'deb x y\rz', 'http://\u001b', 'root\u0000', 'a,b', 'constructor'),
);
const scalar = fc.oneof(
  text,
  fc.double(),
  fc.integer(),
  fc.boolean(),
  fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, -0, 1e300, 2 ** 53, new Date(0)),
);
const value = fc.oneof(
  { weight: 4, arbitrary: scalar },
  { weight: 2, arbitrary: fc.array(text, { maxLength: 3 }) },
  { weight: 1, arbitrary: fc.dictionary(fc.constantFrom('a', '__proto__', 'path'), scalar) },
);

/** As TOML; only what smol-toml would not write, such as texts with a lone surrogate, is different. */
function toml(v: unknown): string {
  if (typeof v === 'string') return JSON.stringify(v).replace(/\u007f/g, '\\u007f');
  if (typeof v === 'number')
    return Number.isNaN(v) ? 'nan' : v === 1 / 0 ? 'inf' : v === -1 / 0 ? '-inf' : `${v}`;
  if (v instanceof Date) return v.toISOString();
  if (Array.isArray(v)) return `[${v.map(toml).join(', ')}]`;
  if (typeof v === 'object' && v !== null)
    return `{ ${Object.entries(v)
      .map(([k, x]) => `${JSON.stringify(k)} = ${toml(x)}`)
      .join(', ')} }`;
  return String(v);
}

/** Every option, as its keys; and some that do not exist. */
const options = Object.entries(defaults)
  .filter(([key]) => key !== 'files' && key !== 'directory')
  .flatMap(([key, v]) =>
    typeof v === 'object' && !Array.isArray(v) ? Object.keys(v).map(k => [key, k]) : [[key]],
  );
const strange = [
  ['__proto__'],
  ['constructor'],
  ['toString', 'x'],
  ['__proto__', 'polluted'],
  ['pool'],
  ['inclde'],
];
const option = fc.constantFrom(...options, ...options, ...strange);

/** The options of one table each stand together, as in a file that an administrator writes. */
const fileOf = (given: readonly (readonly [readonly string[], unknown])[]): string =>
  given
    .map(([keys, v]) => `${keys.map(k => JSON.stringify(k)).join('.')} = ${toml(v)}`)
    .sort()
    .join('\n');

/** What an option is by default, or a word that it may have, with one character that may not be there. */
const spoilt = (text: string): fc.Arbitrary<string> =>
  fc
    .tuple(fc.nat({ max: text.length }), fc.oneof(unit, fc.constant('')))
    .map(([at, c]) => text.slice(0, at) + c + text.slice(at));

function near(keys: readonly string[]): fc.Arbitrary<unknown> {
  const usual = keys.reduce<unknown>((at, key) => (at as Record<string, unknown>)?.[key], defaults);
  if (Array.isArray(usual)) {
    const words = [...usual.map(String), 'alice', '@staff', '/srv/x', 'deb uri suite main', 'bash'];
    return fc.array(fc.constantFrom(...words).chain(spoilt), { maxLength: 2 });
  }
  return typeof usual === 'string' ? spoilt(usual || 'http://x') : value;
}

const anyFile = fc
  .array(
    option.chain(keys => fc.tuple(fc.constant(keys), fc.oneof(value, near(keys)))),
    { maxLength: 4 },
  )
  .map(fileOf);

/** Values that are valid for an option of the same type and kind as `v`, the default. */
const PATHS = fc
  .stringMatching(/^(\/[a-z0-9_@+][a-z0-9_.@+-]{0,6}){1,3}$/)
  .filter(p => !p.startsWith('/run/mayfly'));
const NAMES = fc.stringMatching(/^@?[a-zäß_\\$][^\s:,/@-]{0,8}$/).filter(name => !CONTROL.test(name));
const SIZES = fc.stringMatching(/^[1-9]\d{0,4}[KMGT]?$/);
const valid: Record<string, fc.Arbitrary<unknown>> = {
  include: fc.array(fc.oneof(NAMES, fc.constant('*'))),
  exclude: fc.array(NAMES),
  root_users: fc.array(NAMES),
  sudo: fc.array(NAMES),
  ephemeral_home: fc.array(NAMES),
  min_uid: fc.nat({ max: 4_294_967_294 }),
  on_failure: fc.constantFrom('refuse', 'host'),
  'pool.backend': fc.constantFrom('overlay', 'btrfs', 'lvm-thin', 'lvm'),
  'pool.path': PATHS,
  'pool.image_size': SIZES,
  'overlay.size': SIZES,
  'mounts.bind': fc.array(PATHS),
  'mounts.rbind': fc.array(PATHS),
  'identity.copy': fc.array(PATHS),
  'hook.timeout': fc.double({ min: 1, max: 3600, noNaN: true }),
  'logout.grace': fc.double({ min: 0, max: 3600, noNaN: true }),
  'update.command': fc.array(fc.string({ unit: 'grapheme', minLength: 1 }).filter(s => !/[\0\n]/.test(s))),
  'update.keep': fc.integer({ min: 1, max: 1000 }),
  'update.on_battery': fc.constantFrom('skip', 'run'),
  'check.demote_after': fc.integer({ min: 0, max: 1000 }),
  'directories.state': PATHS,
  'lvm.name': fc.stringMatching(/^[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,20}$/),
};
const validFile = fc
  .subarray(Object.keys(valid), { maxLength: 5 })
  .chain(keys => fc.tuple(...keys.map(key => fc.tuple(fc.constant(key.split('.')), valid[key] ?? fc.nat()))));

describe('a configuration', () => {
  it('of any values is refused with file and line, or is safe', () => {
    fc.assert(
      fc.property(anyFile, fc.oneof(fc.constant(''), anyFile), (file, part) => {
        const c = readOrRefuse(file, part);
        if (c) mustBeSafe(c);
        expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
      }),
      cases('any configuration'),
    );
  });

  it('with valid values has them, and is the same when it is printed and read again', () => {
    fc.assert(
      fc.property(validFile, given => {
        const c = read(fileOf(given));
        mustBeSafe(c);
        for (const [keys, v] of given) {
          const found = keys.reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], c);
          expect(found, keys.join('.')).toEqual(v);
        }
        expect(read(toToml(c))).toEqual(c);
      }),
      cases('valid configurations'),
    );
  });

  it('that was cut or damaged is refused with file and line, or is safe', () => {
    const damage = fc.oneof(
      fc.record({ cut: fc.nat() }),
      fc.record({ at: fc.nat(), bit: fc.nat({ max: 7 }) }),
      fc.record({ at: fc.nat(), put: fc.string({ unit: 'binary', maxLength: 4 }) }),
    );
    const whole = toToml(defaults);
    fc.assert(
      fc.property(fc.oneof(validFile.map(fileOf), fc.constant(whole)), damage, (file, d) => {
        const at = ('at' in d ? d.at : d.cut) % (file.length + 1);
        const left = file.slice(0, at);
        const c = file.charCodeAt(at);
        const [put, from] =
          'put' in d
            ? [d.put, at]
            : 'bit' in d && c >= 0
              ? [String.fromCharCode(c ^ (1 << d.bit)), at + 1]
              : ['', file.length];
        const found = readOrRefuse(left + put + file.slice(from));
        if (found) mustBeSafe(found);
      }),
      cases('damaged configurations'),
    );
  });

  it('that is no TOML at all is refused with file and line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 60 }), file => {
        const c = readOrRefuse(file);
        if (c) mustBeSafe(c);
      }),
      cases('no configurations'),
    );
  });

  it.each([
    'sudo = ["a\\u001bb"]',
    'root_users = ["@a\\u0085b"]',
    'include = ["a\\u0000"]',
    'check.user = "a\\u007f"',
    'update.proxy = "http://a\\u001b"',
    'update.sources = ["deb a\\r b c"]',
  ])('with a control character in a name is refused: %s', file => {
    expect(readOrRefuse(file)).toBeUndefined();
  });

  it.each([
    ['arrays', `include = ${'['.repeat(5000)}${']'.repeat(5000)}`],
    ['tables', `a = ${'{ a = '.repeat(5000)}1${' }'.repeat(5000)}`],
    ['keys', `${'a.'.repeat(5000)}a = 1`],
    ['headers', `[${'a.'.repeat(5000)}a]`],
    ['open brackets', '['.repeat(100_000)],
  ])('with very many nested %s is refused', (_what, file) => {
    expect(readOrRefuse(file)).toBeUndefined();
  });
});

describe('lists of the configuration', () => {
  it('match a group only by "@" and its name, and a person only by theirs', () => {
    const name = fc.oneof(NAMES, fc.constantFrom('@staff', 'staff', '*'));
    fc.assert(
      fc.property(fc.array(name), name, name, (list, user, group) => {
        const who = { name: user, uid: 1001, gid: 1001, gecos: '', home: '/home/x', shell: '/bin/sh' };
        const expected =
          list.includes('*') || (!user.startsWith('@') && list.includes(user)) || list.includes(`@${group}`);
        expect(isMember(list, who, [{ name: group, gid: 50, members: [] }])).toBe(expected);
      }),
      cases('lists'),
    );
  });
});
