/** The pure functions of the LVM backends: reports, names and tags, sizes, errors, and alerts for full stores. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import { type AlertsSent, newAlerts } from '../../src/service/snapshot-alerts.ts';
import { spaceAlert } from '../../src/service/space-alerts.ts';
import { whyTooLarge } from '../../src/update/init-lvm.ts';
import { poolUsage } from '../../src/update/pool-usage.ts';
import type { Role, Volume, VolumeBackend } from '../../src/volume/backend.ts';
import {
  deviceOf,
  fits,
  lvNameOf,
  parsePoolPath,
  roleIn,
  sealIn,
  sealTags,
  tagOf,
} from '../../src/volume/lvm/names.ts';
import { optionsFor, sizeArguments } from '../../src/volume/lvm/options.ts';
import { parseReport, type Row, reportArguments } from '../../src/volume/lvm/report.ts';
import { diagnose, isFull, usageIn } from '../../src/volume/lvm/usage.ts';
import { admit } from '../../src/volume/usage.ts';
import { preparedWorld, World } from '../world.ts';

const POOL = '/dev/vg-0/may.fly';
const volume = (role: Role, name: string): Volume => ({ backend: 'lvm-thin', pool: POOL, role, name });

/** The output of lvs(8), with only the fields that a test needs. */
const answer = (...rows: Record<string, string>[]): string => JSON.stringify({ report: [{ lv: rows }] });
const row = (fields: Record<string, string>): Row => parseReport(answer(fields))[0] as Row;

describe('names and tags in LVM', () => {
  it.each([
    ['session', 'u1001-0a0b0c0d', 'may.fly-session-u1001-0a0b0c0d', 'mayfly:may.fly:session:u1001-0a0b0c0d'],
    ['generation', '12', 'may.fly-generation-12', 'mayfly:may.fly:generation:12'],
    ['master', 'master', 'may.fly-tree-x', 'mayfly:may.fly:master:master'],
    ['work', 'work', 'may.fly-tree-x', 'mayfly:may.fly:work:work'],
  ] as const)('are derived from %s %s', (role, name, called, tag) => {
    expect(lvNameOf(volume(role, name), () => 'x')).toBe(called);
    expect(tagOf(volume(role, name))).toBe(tag);
    expect(roleIn(POOL, 'lvm-thin', row({ lv_tags: `else,${tag}` }))).toEqual({
      volume: volume(role, name),
      unfinished: false,
    });
    const unfinished = tagOf(volume(role, name), true);
    expect(roleIn(POOL, 'lvm-thin', row({ lv_tags: unfinished }))?.unfinished).toBe(true);
  });

  it('hold a seal of any length in parts that LVM takes, in any order', () => {
    const text = `${JSON.stringify({ origin: 'é,"'.repeat(900) })}\n`;
    const tags = sealTags(POOL, text);
    expect(tags.length).toBeGreaterThan(3);
    for (const tag of tags) expect(tag).toMatch(/^[A-Za-z0-9_+.\-/=!:&#]{1,1024}$/);
    const own = tagOf(volume('generation', '12'));
    const all = row({ lv_tags: [own, ...[...tags].reverse()].join(',') });
    expect(sealIn(POOL, all)).toBe(text);
    expect(roleIn(POOL, 'lvm-thin', all)).toEqual({ volume: volume('generation', '12'), unfinished: false });
    expect(sealIn(POOL, row({ lv_tags: own }))).toBeUndefined();
    expect(sealIn('/dev/g/other', all)).toBeUndefined();
  });

  it.each([
    ['session', '../x'],
    ['session', 'u1-xyz'],
    ['generation', '0'],
    ['generation', '01'],
    ['master', 'other'],
  ] as const)('are refused for %s "%s"', (role, name) => {
    expect(() => tagOf(volume(role, name))).toThrow(/is not a valid /);
    expect(() => lvNameOf(volume(role, name), () => '')).toThrow(/is not a valid /);
  });

  it.each([
    ['', 'no tag'],
    ['mayfly:may.fly:pool', 'the pool itself'],
    ['mayfly:other:master:master', 'another pool’s'],
    ['mayfly:may.fly:session:u1-xyz', 'an invalid name'],
    ['mayfly:may.fly:owner:x', 'an invalid role'],
    ['mayfly:may.fly:master:master,mayfly:may.fly:work:work', 'two tags'],
  ])('do not include "%s": %s', tags => {
    expect(roleIn(POOL, 'lvm-thin', row({ lv_name: 'may.fly-generation-1', lv_tags: tags }))).toBeUndefined();
  });

  it.each([
    ['/dev/vg0/mayfly', { group: 'vg0', name: 'mayfly' }],
    ['/dev/vg-0/may.fly', { group: 'vg-0', name: 'may.fly' }],
  ])('include the pool path %s', (path, place) => expect(parsePoolPath(path)).toEqual(place));
  it.each(['/dev/vg', '/dev/vg/a/b', 'vg/a', '/dev/-vg/a', '/dev/vg/..', '/dev/vg/a b', '/run/vg/a'])(
    'exclude the pool path %s',
    path => expect(() => parsePoolPath(path)).toThrow(/is not/),
  );

  it('have doubled hyphens in the path of a device', () =>
    expect(deviceOf('vg-0', 'a-b')).toBe('/dev/mapper/vg--0-a--b'));
});

describe('reports of lvs', () => {
  it('are parsed field by field', () => {
    const fields = {
      ...{ lv_name: '[x_tdata]', lv_uuid: 'U', lv_tags: 'a,b', lv_attr: 'Vwi-aotz-k', origin: '[o]' },
      ...{ lv_size: '1024', data_percent: '12.50', metadata_percent: '', lv_active: 'active' },
      ...{ lv_device_open: 'open', lv_suspended: 'suspended', lv_check_needed: 'check needed' },
      ...{ lv_kernel_major: '254', lv_kernel_minor: '3' },
    };
    const read = row(fields);
    expect(read).toMatchObject({ name: 'x_tdata', tags: ['a', 'b'], origin: 'o', size: 1024, data: 12.5 });
    expect(read).toMatchObject({ active: true, open: true, suspended: true, needsCheck: true, minor: 3 });
    expect(read.metadata).toBeNaN();
  });
  it('request every field that is parsed', () => {
    const asked = reportArguments('vg').join(' ');
    for (const field of ['lv_uuid', 'lv_tags', 'lv_suspended', 'metadata_percent', 'lv_check_needed'])
      expect(asked).toContain(field);
    expect(asked).toMatch(/ -- vg$/);
  });
  it.each(['', '{}', 'Volume group "x" not found'])('reject "%s"', text =>
    expect(() => parseReport(text)).toThrow(/unexpected output/),
  );
  it.each([
    ['swi-I-s---', true],
    ['swi-a-s---', false],
    ['Vwi-aotz-k', false],
  ])('show an overflow for lv_attr %s: %s', (lv_attr, is) => expect(row({ lv_attr }).overflowed).toBe(is));
});

describe('pool usage', () => {
  const thin = (fields: Record<string, string>): Row =>
    row({
      ...{ lv_name: 'may.fly', lv_tags: 'mayfly:may.fly:pool', lv_size: '1000', lv_active: 'active' },
      ...{ data_percent: '50.00', metadata_percent: '20.00', ...fields },
    });
  it.each([
    [{}, { percent: 50, free: 500 }],
    [{ metadata_percent: '91.00' }, { percent: 91, free: 500, of: 'metadata' }],
    [{ data_percent: '100.00' }, { percent: 100, free: 0 }],
  ])('of a thin pool is that of its data or metadata, whichever is fuller: %o', (fields, usage) =>
    expect(usageIn(POOL, 'lvm-thin', [thin(fields)])).toEqual({ total: 1000, ...usage }),
  );
  it('of an inactive thin pool is unknown', () =>
    expect(usageIn(POOL, 'lvm-thin', [thin({ lv_active: '' })]).problem).toMatchObject({
      what: expect.stringMatching(/is not active/),
      fix: 'mayfly recover',
    }));
  it.each([
    [{ lv_check_needed: 'check needed' }, /needs a check/, /lvconvert --repair vg-0\/may.fly/],
    [{ lv_health_status: 'metadata_read_only' }, /needs a check/, /lvconvert --repair/],
    [{ lv_health_status: 'failed' }, /has failed/, /lvchange -an vg-0\/may.fly/],
    [{ data_percent: '' }, /usage .* is unknown/, /lvs -a vg-0/],
    [{ vg_missing_pv_count: '1' }, /has 1 missing disk$/, /pvs.*vgextend --restoremissing vg-0/],
    [{ lv_health_status: 'out_of_data' }, /is full/, /lvextend -L \+10G vg-0\/may.fly/],
  ])('of a thin pool with %o is a problem with a hint and refuses logins', (fields, what, fix) => {
    const usage = usageIn(POOL, 'lvm-thin', [thin(fields)]);
    expect(usage.problem?.what).toMatch(what);
    expect(usage.problem?.fix).toMatch(fix);
    expect(() => admit(usage, POOL, { max_used_percent: 90, min_free: 0 })).toThrow(what);
  });
  it('of a missing thin pool is a problem', () =>
    expect(usageIn(POOL, 'lvm-thin', [row({ lv_name: 'may.fly' })]).problem?.what).toMatch(
      /no thin pool "may.fly"/,
    ));
  it('of classic volumes is the free space of the volume group', () =>
    expect(usageIn(POOL, 'lvm', [row({ vg_size: '100', vg_free: '30' })])).toEqual({
      total: 100,
      free: 30,
      percent: 0,
    }));

  const G = 2 ** 30;
  it.each([
    ['lvm-thin', '90%', '16G', 10 * G, undefined],
    ['lvm-thin', '20G', '16G', 10 * G, /a thin pool of 20.0 GiB/],
    ['lvm-thin', '90%', '16G', 0.1 * G, /at least 512 MiB/],
    ['lvm', '90%', '2G', 10 * G, undefined],
    ['lvm', '90%', '4G', 10 * G, /16.8 GiB \(four volumes of 4.0 GiB, and one session\)/],
  ] as const)(
    'is checked for %s with a pool of %s and volumes of %s in %d bytes',
    (kind, pool, size, free, why) => {
      const words = whyTooLarge(kind, { pool, volume: size, cow: '20%' }, free);
      if (why === undefined) expect(words).toBeUndefined();
      else expect(words).toMatch(why);
    },
  );
  it.each([
    ['20%', 'ORIGIN', ['-l', '20%ORIGIN']],
    ['90%', 'FREE', ['-l', '90%FREE']],
    ['2G', 'ORIGIN', ['-L', '2048m']],
    ['1.3G', 'ORIGIN', ['-L', '1331m']],
  ] as const)('gives lvcreate the size %s of %s', (size, total, args) =>
    expect(sizeArguments(size, total)).toEqual(args),
  );
});

it.each([
  ['vg0', 'mayfly', true],
  ['v'.repeat(60), 'mayfly', true],
  ['v'.repeat(60), 'm'.repeat(40), false],
  ['a-'.repeat(25), 'mayfly', true],
  ['a-'.repeat(30), 'mayfly', false],
])('a pool %s/%s has device names that the kernel accepts: %s', (group, name, is) =>
  expect(fits({ group, name })).toBe(is),
);

describe('errors of LVM', () => {
  it.each([
    ['  Thin pool vg--0-may.fly-tpool (254:2) transaction_id is 5, while expected 6.', /disagree about/],
    ['  Thin pool vg-0/may.fly has unexpected transaction id 4, expecting 5.', /disagree about/],
    [
      '  Cannot use thin pool vg-0/may.fly with transaction id 4 for thin volumes. Expected transaction id 5.',
      /disagree/,
    ],
    ['  Check of pool vg-0/may.fly failed (status:1). Manual repair required!', /needs a check/],
    ['  Cannot change VG vg-0 while PVs are missing.', /a disk of the volume group "vg-0" is missing/],
    ['  Volume group "vg-0" not found', /the volume group "vg-0" was not found/],
    [
      '  modprobe: FATAL: Module dm-snapshot not found in directory /lib/modules/6.1.0',
      /does not support dm-snapshot$/,
    ],
    [
      '  thin-pool: Required device-mapper target(s) not detected in your kernel.',
      /does not support dm-thin-pool$/,
    ],
    [
      '  /usr/sbin/modprobe failed: 1\n  snapshot: Required device-mapper target(s) not detected',
      /dm-snapshot$/,
    ],
    ["  Can't process LV vg-0/x: thin target support missing from kernel?", /dm-thin-pool$/],
  ])('such as "%s" get an explanation and a hint', (stderr, what) => {
    const problem = diagnose(POOL, stderr);
    expect(problem?.what).toMatch(what);
    expect(problem?.fix).toMatch(
      /^(modprobe dm-|vgcfgbackup|end all sessions, then "lvchange|reconnect the disk|pvs)/,
    );
  });
  it('do not include a skipped thin_check', () =>
    expect(
      diagnose(
        POOL,
        '  WARNING: Check is skipped, please install recommended missing binary /usr/sbin/thin_check!',
      ),
    ).toBeUndefined());
  it.each([
    ['  Volume group "vg" has insufficient free space (0 extents): 4 required.', true],
    ['  Cannot create new thin volume, free space in thin pool vg/pool reached threshold.', true],
    ['  /etc/lvm/archive/.lvm_x: write error failed: No space left on device', false],
  ])('such as "%s" mean missing space: %s', (stderr, is) => {
    expect(isFull(stderr)).toBe(is);
    expect(diagnose(POOL, stderr)).toBeUndefined();
  });
});

it.each([
  ['lvm-thin', 'ext4', false, 'rw,noinit_itable,discard'],
  ['lvm-thin', 'xfs', false, 'rw,nouuid,discard'],
  ['lvm', 'xfs', false, 'rw,nouuid'],
  ['lvm-thin', 'ext4', true, 'ro,noinit_itable'],
] as const)('%s with %s, read-only %s, has its mount options', (kind, fs, read, options) =>
  expect(optionsFor(kind, fs, read)).toBe(options),
);

it('there is one alert when a store is nearly full, and one when it is full', () => {
  const told: AlertsSent = new Map();
  const at = (percent: number) => newAlerts(told, [{ session: 'u1-00000001', percent }]).map(n => n.percent);
  expect([at(10), at(79), at(81), at(90), at(100), at(100)]).toEqual([[], [], [81], [], [100], []]);
  expect(newAlerts(told, [])).toEqual([]);
  expect(at(85)).toEqual([85]); // another session under the same name
});

it('the configuration refuses btrfs on LVM with the reason', () => {
  const w = new World();
  w.host.mkdir('/etc', 0o755);
  w.host.mkdir('/etc/mayfly', 0o755);
  w.put('/etc/mayfly/mayfly.toml', '[lvm]\nfs = "btrfs"\n');
  expect(() => readConfig(w.host, '/etc/mayfly/mayfly.toml')).toThrow(
    /mayfly.toml:2: invalid "lvm.fs": .*btrfs would confuse a snapshot of its device with the device itself/,
  );
});

describe('the store of the next session', () => {
  const G = 2 ** 30;
  /** A volume of 10 GiB in a group with `free` bytes left; the configuration has 20 % for a store. */
  async function room(free: number) {
    const on = preparedWorld().machine();
    const generation = {
      volume: { backend: 'lvm', pool: POOL, role: 'generation', name: '1' },
      ...{ number: 1, identity: 'x', created: '2026-01-01T00:00:00Z', origin: 'test' },
    };
    on.host.write(`${on.paths.generations}/1.json`, JSON.stringify(generation), { mode: 0o600 });
    on.host.symlink('generations/1.json', on.paths.stable);
    const backend = {
      usage: async () => ({ total: 40 * G, free, percent: 0 }),
      forkCost: async () => 10 * G,
    };
    const fake = { open: async () => {}, ...backend } as unknown as VolumeBackend;
    return poolUsage({ ...on, backend: () => fake }, { backend: 'lvm', path: POOL });
  }
  it('is no problem if there is enough space', async () =>
    expect((await room(2 * G))?.problem).toBeUndefined());
  it('is a problem if there is not enough space for the real size of the volume', async () => {
    const usage = await room(2 * G - 1);
    expect(usage?.problem?.what).toMatch(/a session's snapshot needs 2.0 GiB, and ".*" has 2.0 GiB left/);
    const limits = { warn: 75, full: 90 };
    expect(usage && spaceAlert(0, usage, POOL, limits)).toMatchObject({ scarcity: 2, level: 'warning' });
  });
});
