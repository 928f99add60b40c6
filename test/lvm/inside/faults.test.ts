/** What only LVM can do to people: full pools and stores, dying disks, suspended devices, other people's volumes. */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { realHost } from '../../../src/linux/real-host.ts';
import type { Generation } from '../../../src/state/generations.ts';
import { sessionOf } from '../../../src/volume/backend.ts';
import { openBackend } from '../../../src/volume/open.ts';
import { forgetUsers, Lab, must, sh, user } from '../../system/lab.ts';
import { makeMiniTree } from '../../system/mini.ts';
import { GROUP } from './bench.ts';
import { abandon, mapperName, removeDevice, untilClosed, whenFree } from './devices.ts';
import { ground } from './ground.ts';

const A = 'mayfly-a';
const B = 'mayfly-b';
const C = 'mayfly-c';

/** For cases that leave it as they found it. */
const labOn = (backend: 'lvm-thin' | 'lvm', lvm: string) =>
  ground(
    () => new Lab(),
    lab => {
      configure(lab, lvm);
      const from = makeMiniTree(`${lab.dir}/tree`);
      expect(lab.mayfly('init', '--backend', backend, '--from', from, '--quiet')).toMatchObject({ code: 0 });
      expect(lab.hook('start', A)).toMatchObject({ code: 0 }); // makes what the first login since boot makes
      expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
    },
    lab => {
      lab.hook('stop', A);
      lab.hook('stop', B, ':1');
      lab.hook('stop', C, ':2');
    },
  );

function configure(lab: Lab, lvm: string, group = GROUP): void {
  // A login takes as long as the machine lets it.
  lab.configure(
    `[hook]\ntimeout = 1200\n[admission]\nmin_free = "8M"\n[lvm]\ngroup = "${group}"\nname = "${lab.lvmName}"\n${lvm}\n`,
  );
}

/** What an administrator may set. */
const LVM_LOCAL = '/etc/lvm/lvmlocal.conf';

const pathOf = (lab: Lab): string => `${GROUP}/${lab.lvmName}`;
const rootOf = (lab: Lab, name: string): string => lab.session(name)?.root ?? '/nonexistent';

beforeAll(() => {
  for (const name of [A, B, C]) user(name);
});
afterAll(forgetUsers);

describe('thin pools', () => {
  const SMALL = 'pool_size = "600M"\nvolume_size = "1G"';
  const on = labOn('lvm-thin', SMALL);

  const configureLvm = (text: string): void => {
    on.afterwards(() => fs.rmSync(LVM_LOCAL, { force: true }));
    fs.writeFileSync(LVM_LOCAL, `${text}\n`);
  };

  it('one that a session fills refuses new logins, says so, and is healed by the end of that session', () => {
    const { lab } = on;
    lab.hook('start', A);
    sh('dd', ['if=/dev/zero', `of=${rootOf(lab, A)}/var/big`, 'bs=1M', 'count=560', 'conv=fsync']);
    const refused = lab.hook('start', B, ':1');
    expect(refused.code).not.toBe(0);
    expect(refused.err).toMatch(
      /the pool "\/dev\/vg-test\/lab-\w+" is 9\d % full; the limit for new logins is 90 %/,
    );
    expect(lab.mayfly('status').out).toMatch(/lvm-thin at \/dev\/vg-test\/lab-\w+, 9\d % used/);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0, err: '' });
    expect(lab.inside(B, 'sh', '-c', 'echo works').out).toBe('works\n');
  });

  it('one that is full to the brim is an error at once, not a wait, and is healed likewise', () => {
    const { lab } = on;
    const write = (name: string, file: string, mebibytes: number) =>
      sh('dd', [
        ...['if=/dev/zero', `of=${rootOf(lab, name)}/var/${file}`],
        ...['bs=1M', `count=${mebibytes}`, 'conv=fsync'],
      ]);
    const read = (): string => lab.inside(B, 'cat', '/var/before').out;
    expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0, err: '' });
    fs.writeFileSync(`${rootOf(lab, B)}/var/before`, 'kept\n', { flush: true });
    lab.hook('start', A);
    const target = must('dmsetup', ['status', `${mapperName(pathOf(lab))}-tpool`]);
    expect(target).toMatch(/ error_if_no_space /); // and not queue_if_no_space, which waits for a minute
    expect(write(A, 'big', 900).code).not.toBe(0);
    // Who is in already can write nothing new, and reads on.
    expect(write(B, 'more', 20).code).not.toBe(0);
    expect(read()).toBe('kept\n');
    const refused = lab.hook('start', C, ':2');
    expect(refused.code).not.toBe(0);
    expect(refused.err).toMatch(/is (full|100 % full)/);
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(read()).toBe('kept\n');
    console.log(`who was in: ${write(B, 'again', 20).code === 0 ? 'writes' : 'only reads'} afterwards`);
    expect(lab.hook('start', C, ':2')).toMatchObject({ code: 0, err: '' });
    expect(write(C, 'more', 20)).toMatchObject({ code: 0 });
    expect(lab.hook('stop', B, ':1')).toMatchObject({ code: 0, err: '' });
    expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0, err: '' });
    expect(write(B, 'more', 20)).toMatchObject({ code: 0 });
  });

  it('one that LVM and the kernel disagree about is diagnosed, and not repaired by us', async () => {
    const { lab } = on;
    const pool = pathOf(lab);
    const device = `/dev/mapper/${mapperName(pool)}-tpool`;
    const id = Number(must('lvs', ['--noheadings', '-o', 'transaction_id', pool]).trim());
    must('dmsetup', ['message', device, '0', `set_transaction_id ${id} ${id + 5}`]);
    await whenFree('lvchange', ['-an', pool]);
    const refused = lab.hook('start', A);
    expect(refused.code).not.toBe(0);
    expect(refused.err).toMatch(/LVM and the kernel disagree about the thin pool "vg-test\/lab-\w+" \(trans/);
    expect(refused.err).toMatch(/^hint: vgcfgbackup vg-test/m);
    expect(lab.mayfly('status').code).toBe(0);
    // What lvmthin(7) tells an administrator to do, here with the device itself.
    must('lvchange', ['-ay', '-K', `${pool}_tmeta`, '-y']);
    await whenFree('lvchange', ['-an', `${pool}_tmeta`]);
    must('vgcfgbackup', ['-q', '-f', `${lab.dir}/vg`, GROUP]);
    const text = fs.readFileSync(`${lab.dir}/vg`, 'utf8');
    const name = pool.slice(GROUP.length + 1);
    const at = text.indexOf(`\t\t${name} {`);
    const own = text.slice(at).replace(/transaction_id = \d+/, `transaction_id = ${id + 5}`);
    fs.writeFileSync(`${lab.dir}/vg`, text.slice(0, at) + own);
    must('vgcfgrestore', ['--force', '-q', '-f', `${lab.dir}/vg`, GROUP]);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  });

  it('nothing of ours is activated by a boot; recover or the first login does it', async () => {
    const { lab } = on;
    const active = (): string =>
      must('lvs', ['--noheadings', '-o', 'lv_name', '-S', 'lv_active=active', GROUP]).trim();
    lab.hook('start', A);
    lab.hook('stop', A);
    await whenFree('lvchange', ['-an', pathOf(lab)]);
    must('vgchange', ['-q', '-aay', GROUP]);
    expect(active()).toBe('');
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  });

  it('a device that a killed command left suspended is resumed by recover', () => {
    const { lab } = on;
    lab.hook('start', A);
    const id = lab.session(A)?.id ?? '';
    const device = `/dev/mapper/${mapperName(`${pathOf(lab)}-session-${id}`)}`;
    on.afterwards(() => sh('dmsetup', ['resume', device])); // whoever looks at a suspended device waits for ever
    must('dmsetup', ['suspend', device]);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(must('dmsetup', ['info', '-c', '--noheadings', '-o', 'suspended', device]).trim()).toBe('Active');
    fs.writeFileSync(`${rootOf(lab, A)}/var/x`, 'works\n', { flush: true });
    expect(lab.inside(A, 'cat', '/var/x').out).toBe('works\n');
  });

  it('a device for which udev has made no name gets it from LVM, so a login works', () => {
    const { lab } = on;
    const rules = '/run/udev/rules.d/60-mayfly-test.rules';
    on.afterwards(() => {
      fs.rmSync(rules, { force: true });
      must('udevadm', ['control', '--reload']);
    });
    fs.mkdirSync('/run/udev/rules.d', { recursive: true });
    const ours = 'SUBSYSTEM=="block", ACTION!="remove", ENV{DM_NAME}=="*--session--*"';
    fs.writeFileSync(rules, `${ours}, RUN+="/bin/rm -f /dev/mapper/$env{DM_NAME}"\n`);
    must('udevadm', ['control', '--reload']);
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.inside(A, 'sh', '-c', 'echo works').out).toBe('works\n');
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
  });

  it('a volume that an administrator renames is still ours by its tag', () => {
    const { lab } = on;
    lab.hook('start', A);
    const session = `${lab.lvmName}-session-${lab.session(A)?.id}`;
    must('lvrename', ['-q', GROUP, session, 'renamed']);
    expect(lab.inside(A, 'sh', '-c', 'echo works').out).toBe('works\n');
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.inPool().sessions).toEqual([]);
    // A fork finds its origin by name.
    const generation = `${lab.lvmName}-generation-1`;
    on.afterwards(() => sh('lvrename', ['-q', GROUP, 'elsewhere', generation]));
    must('lvrename', ['-q', GROUP, generation, 'elsewhere']);
    expect(lab.hook('start', A).err).toMatch(/generation 1 cannot be used: its volume is missing\n/);
    expect(lab.mayfly('recover').code).toBe(6);
    must('lvrename', ['-q', GROUP, 'elsewhere', generation]);
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  });

  it('a volume that is in use for a moment fails no logout, whatever lvm.conf says', async () => {
    const { lab } = on;
    configureLvm('activation{retry_deactivation=0}');
    lab.hook('start', A);
    const device = `/dev/mapper/${mapperName(`${pathOf(lab)}-session-${lab.session(A)?.id}`)}`;
    // Lets go once LVM sleeps, which it does between two attempts.
    const script = `
      exec 3<"$1"; echo $$; exec >/dev/null 2>&1
      asleep=0
      until [ $asleep -ge 5 ]; do
        read -r _ _ state _ <"/proc/$(pgrep -x lvremove)/stat" || state=absent
        case $state in S) asleep=$((asleep + 1)) ;; *) asleep=0 ;; esac
      done`;
    const holder = spawn('sh', ['-c', script, 'sh', device], { stdio: ['ignore', 'pipe', 'ignore'] });
    on.afterwards(() => holder.kill('SIGKILL'));
    await new Promise(resolve => holder.stdout.once('data', resolve));
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.inPool().sessions).toEqual([]);
  });

  it('metadata that the programs of this machine cannot check is no reason to repair it', async () => {
    const { lab } = on;
    await whenFree('lvchange', ['-an', pathOf(lab)]);
    configureLvm('global{thin_check_executable="/bin/false"}');
    const refused = lab.hook('start', A);
    fs.rmSync(LVM_LOCAL);
    expect(refused.code).toBe(4);
    expect(refused.err).toMatch(
      /the metadata of the thin pool "vg-test\/lab-\w+" needs a check\nhint: end all sessions, then "lvchange -an vg-test\/lab-\w+" and "lvconvert --repair vg-test\/lab-\w+"\n/,
    );
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  });

  it('a volume that another namespace holds stays on record, its holder is named, and it goes later', async () => {
    const { lab } = on;
    lab.hook('start', A);
    const id = lab.session(A)?.id ?? '';
    const device = `${pathOf(lab)}-session-${id}`;
    const held = `${lab.dir}/held`;
    fs.mkdirSync(held);
    const script = 'mount "$1" "$2" && { sleep 100000 >/dev/null 2>&1 & echo $!; }';
    const pid = Number(must('unshare', ['-m', 'sh', '-c', script, 'sh', `/dev/${device}`, held]));
    on.afterwards(() => sh('kill', ['-KILL', String(pid)]));
    const r = lab.hook('stop', A);
    expect(r.code).toBe(6);
    expect(r.err).toMatch(new RegExp(`is in use: process ${pid} sleep \\(its mount at ${held}\\)`));
    expect(lab.session(A)?.stuck).toMatch(/^volume: /);
    process.kill(pid, 'SIGKILL');
    await untilClosed(mapperName(device)); // a namespace is taken down after its last process
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    fs.rmdirSync(held);
  });

  it('a dry run of a login tells what it would do, and does nothing', () => {
    const { lab } = on;
    const [file, args] = lab.hookArgs('lightdm', 'start');
    const env = { USER: A, DISPLAY: ':0', PATH: '/usr/bin:/bin' };
    const r = sh(file, [...args, '--dry-run'], { env });
    expect(r).toMatchObject({ code: 0, err: '' });
    expect(r.out).toMatch(/^run lvcreate .* --addtag mayfly:lab-\w+:session:u\d+-\w+ .*-generation-1$/m);
    expect(r.out).toMatch(/^mount ext4 on .*\/run\/roots\/u\d+-\w+ /m);
  });

  it('a group that is not there is said to be so, and recovery goes on without it', () => {
    const { lab } = on;
    lab.hook('start', A);
    const id = lab.session(A)?.id ?? '';
    configureLvm('devices{filter=["r|.*|"]}');
    const broken = lab.mayfly('recover');
    const refused = lab.hook('start', B, ':1');
    fs.rmSync(LVM_LOCAL);
    expect(broken.code).toBe(6);
    expect(broken.err + broken.out).toMatch(/the volume group "vg-test" was not found/);
    expect(refused.code).not.toBe(0);
    expect(lab.inside(A, 'sh', '-c', 'echo works').out).toBe('works\n');
    expect(lab.session(A)?.id).toBe(id);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0, err: '' });
  });

  it('other people’s volumes are left alone, whatever they are called', () => {
    const { lab } = on;
    const names = [`${lab.lvmName}-session-u1-00000001`, `${lab.lvmName}-generation-77`, 'precious'];
    on.afterwards(() => sh('lvremove', ['-q', '-y', ...names.map(name => `${GROUP}/${name}`)]));
    for (const name of names) must('lvcreate', ['-q', '-an', '-Zn', '-L', '4M', '-n', name, GROUP]);
    must('lvchange', ['-q', '--addtag', 'mayfly:another:session:u1-00000001', `${GROUP}/precious`]);
    expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
    expect(lab.mayfly('gc')).toMatchObject({ code: 0 });
    for (const name of names) must('lvremove', ['-q', '-y', `${GROUP}/${name}`]);
  });
});

describe('classic stores', () => {
  const on = labOn('lvm', 'volume_size = "256M"\ncow_size = "16M"');

  it('one that overflows is told of, hurts nobody else, and goes with its session', async () => {
    const { lab } = on;
    lab.hook('start', A);
    lab.hook('start', B, ':1');
    const backend = openBackend('lvm', realHost());
    const strainOf = async (): Promise<number> => {
      const all = await backend.snapshotUsage?.(`/dev/${pathOf(lab)}`);
      return all?.find(s => s.session === lab.session(A)?.id)?.percent ?? -1;
    };
    expect(await strainOf()).toBeLessThan(50);
    sh('dd', ['if=/dev/urandom', `of=${rootOf(lab, A)}/var/big`, 'bs=1M', 'count=40', 'conv=fsync']);
    expect(await strainOf()).toBe(100);
    expect(lab.inside(B, 'sh', '-c', 'echo works').out).toBe('works\n');
    expect(lab.hook('stop', A)).toMatchObject({ code: 0, err: '' });
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
    lab.hook('stop', A);
    lab.hook('stop', B, ':1');
    expect(lab.inPool()).toMatchObject({ sessions: [], generations: ['1'] });
  });

  it('a generation that has snapshots is not removed, because LVM would remove them with it', async () => {
    const { lab } = on;
    const backend = openBackend('lvm', realHost());
    const record = fs.readFileSync(`${lab.dir}/state/generations/1.json`, 'utf8');
    const origin = (JSON.parse(record) as Generation).volume;
    const session = sessionOf(origin, 'u4242-0a0b0c0d'); // not open: LVM would not even refuse it
    on.afterwards(() => backend.remove(session));
    await backend.fork(origin, session, { cow: '16M' });
    const before = lab.volumes();
    await expect(backend.remove(origin)).rejects.toMatchObject({
      code: 'stuck',
      message: expect.stringMatching(/-generation-1" has snapshots$/),
    });
    expect(lab.volumes()).toEqual(before);
    await backend.remove(session);
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  });

  it('a kernel without their module refuses the login with the command, and blames no generation', () => {
    const { lab } = on;
    const rule = '/etc/modprobe.d/mayfly-test.conf';
    on.afterwards(() => fs.rmSync(rule, { force: true }));
    fs.writeFileSync(rule, 'install dm-snapshot /bin/false\n');
    must('modprobe', ['-r', 'dm-snapshot']);
    const refused = lab.hook('start', A);
    expect(refused.code).toBe(4);
    expect(refused.err).toMatch(/this kernel does not support dm-snapshot\nhint: modprobe dm-snapshot\n/);
    expect(lab.mayfly('doctor').out).toMatch(
      /this kernel does not support dm-snapshot: modprobe\.d\(5\) forbids its module\n.*hint: grep -rw dm-snapshot/,
    );
    fs.rmSync(rule);
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  });

  it('a group without room for another one refuses the login, and leaves nothing', () => {
    const { lab } = on;
    const before = lab.inPool();
    on.afterwards(() => sh('lvremove', ['-q', '-y', `${GROUP}/greedy`]));
    must('lvcreate', ['-q', '-Zn', '-an', '-l', '100%FREE', '-n', 'greedy', GROUP]);
    const r = lab.hook('start', A);
    expect(r.code).toBe(4);
    expect(r.err).toMatch(/has 0 MiB left; a new login needs 8 MiB|not enough space in/);
    must('lvremove', ['-q', '-y', `${GROUP}/greedy`]);
    expect(lab.inPool()).toEqual(before);
    expect(lab.hook('start', A)).toMatchObject({ code: 0, err: '' });
  });
});

describe('a disk that fails', () => {
  const DEVICE = '/dev/ubdc';
  const FRAIL_GROUP = 'vg-frail';
  /** Not from its first sector: LVM would take the device beneath for a copy of it. */
  const FIRST = 2048;
  let lab: Lab | undefined;

  /** What the device is made of; whatever was there before is replaced, also where it does not answer. */
  function become(target: string): void {
    const sectors = Number(must('blockdev', ['--getsz', DEVICE]).trim()) - FIRST;
    const [kind = '', ...words] = target.split(' ');
    const place = kind === 'error' ? [] : [DEVICE, FIRST];
    const table = ['--table', [0, sectors, kind, ...place, ...words].join(' ')];
    if (sh('dmsetup', ['info', 'frail']).code !== 0) {
      must('dmsetup', ['create', 'frail', ...table]);
      return;
    }
    must('dmsetup', ['suspend', '--noflush', '--nolockfs', 'frail']);
    try {
      must('dmsetup', ['reload', 'frail', ...table]);
    } finally {
      must('dmsetup', ['resume', 'frail']);
    }
  }
  const faults = {
    error: () => become('error'),
    /** Works for a second, and fails for three. */
    flakey: () => become('flakey 1 3'),
    /** The sectors at its beginning, by which LVM knows it, cannot be read. Blocks count from the device beneath. */
    dust() {
      become('dust 4096');
      for (const block of [0, 1].map(n => String(n + FIRST / 8)))
        must('dmsetup', ['message', 'frail', '0', 'addbadblock', block]);
      must('dmsetup', ['message', 'frail', '0', 'enable']);
    },
  };

  /** Leaves an empty disk, whatever the case has made of it. */
  afterEach(async () => {
    const used = lab;
    lab = undefined;
    if (sh('dmsetup', ['info', 'frail']).code === 0) become('linear');
    if (used !== undefined && fs.existsSync(used.dir)) await abandon(used);
    sh('vgchange', ['-q', '-an', FRAIL_GROUP]);
    sh('vgremove', ['-q', '-ff', '-y', FRAIL_GROUP]);
    const prefix = `${mapperName(FRAIL_GROUP)}-`;
    const names = must('dmsetup', ['info', '-c', '--noheadings', '-o', 'name', '--sort', '-minor']).split(
      '\n',
    );
    for (const name of names) if (name.startsWith(prefix)) await removeDevice(name);
    await removeDevice('frail');
    must('dd', ['if=/dev/zero', `of=${DEVICE}`, 'bs=1M', 'count=8', 'conv=fsync']);
  });

  /**
   * A disk that fails and then works again may have recorded that the pool needs a check. The administrator is told what to
   * type, and types it.
   */
  function recoverAsTold(used: Lab): ReturnType<Lab['mayfly']> {
    const first = used.mayfly('recover');
    const told = /"(lvchange -an [^"]*)" and "(lvconvert --repair [^"]*)"/.exec(
      `${first.err}\n${used.mayfly('status').out}`,
    );
    if (!told) return first;
    console.log(`typed as told: ${told[0]}`);
    for (const words of told.slice(1)) sh('sh', ['-c', words]);
    sh('lvremove', ['-q', '-y', `${FRAIL_GROUP}/${used.lvmName}_meta0`]);
    return used.mayfly('recover');
  }

  it.each(['lvm-thin', 'lvm'] as const)(
    'refuses a login with a reason and is recovered from: %s',
    backend => {
      become('linear');
      lab = new Lab();
      configure(lab, 'pool_size = "600M"\nvolume_size = "256M"\ncow_size = "16M"', FRAIL_GROUP);
      const from = makeMiniTree(`${lab.dir}/tree`);
      const words = ['--from', from, '--device', '/dev/mapper/frail', '--vg', FRAIL_GROUP];
      expect(lab.mayfly('init', '--quiet', '--backend', backend, ...words)).toMatchObject({
        code: 0,
        err: '',
      });
      for (const how of ['error', 'flakey', 'dust'] as const) {
        faults[how]();
        const r = lab.hook('start', A);
        if (how !== 'flakey') expect(r.code, how).not.toBe(0);
        if (r.code !== 0) expect(r.err).toMatch(/^mayfly: .+/);
        become('linear');
        if (r.code === 0) lab.hook('stop', A);
        lab.mayfly('recover');
        // The kernel stays with its verdict on a thin pool whose disk failed, until it is activated again.
        sh('vgchange', ['-an', FRAIL_GROUP]);
        const again = recoverAsTold(lab);
        expect([how, again.code, again.err]).toEqual([how, 0, '']);
        expect(lab.hook('start', A), how).toMatchObject({ code: 0, err: '' });
        expect(lab.hook('stop', A), how).toMatchObject({ code: 0 });
        expect(lab.records(), how).toEqual([]);
      }
      configure(lab, 'pool_size = "600M"\nvolume_size = "256M"', FRAIL_GROUP);
      expect(lab.mayfly('recover')).toMatchObject({ code: 0 });
      expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
      expect(must('lvs', ['--noheadings', '-a', FRAIL_GROUP]).trim()).toBe('');
      lab.close();
    },
  );

  it('is not taken for a pool while something is on it', () => {
    must('mkfs.ext4', ['-q', '-F', DEVICE]);
    lab = new Lab();
    const words = ['--backend', 'lvm-thin', '--from', '/etc', '--vg', 'vg-new', '--device', DEVICE];
    const r = lab.mayfly('init', ...words);
    expect(r).toMatchObject({ code: 1, out: '' });
    expect(r.err).toMatch(/"\/dev\/ubdc" is not empty: it holds ext4/);
  });
});
