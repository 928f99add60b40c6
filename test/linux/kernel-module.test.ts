/** What the running kernel lacks, from what modprobe(8) prints. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { missingModule } from '../../src/linux/kernel-module.ts';
import { makeMountOps } from '../../src/linux/mount-program.ts';
import { requireFileSystems } from '../../src/linux/mounts.ts';
import { World } from '../world.ts';

const RELEASE = '6.1.0-18-amd64';

/** A machine with this release and other kernels' modules, on which modprobe(8) prints `text`, or fails. */
function world(text: string | undefined, ...kernels: readonly string[]): World {
  const w = new World();
  w.makeDirs('/proc/sys/kernel');
  w.put('/proc/sys/kernel/osrelease', `${RELEASE}\n`);
  w.put('/proc/filesystems', 'nodev\ttmpfs\nnodev\tfuse.overlay\n\text4\n');
  for (const kernel of kernels) w.makeDirs(`/lib/modules/${kernel}`);
  w.programs.modprobe = args => {
    expect(args.slice(0, 2)).toEqual(['--show-depends', '--']);
    if (text === undefined) throw new MayflyError('command', '"modprobe" failed');
    return { stdout: text };
  };
  return w;
}

describe('a file system', () => {
  it.each([
    ['insmod /lib/modules/x/kernel/fs/overlayfs/overlay.ko \n', 'is a module'],
    ['builtin overlay\n', 'is part of the kernel'],
    ['install /usr/local/bin/load overlay \n', 'is loaded by a command of the administrator'],
  ])('is no problem if modprobe prints "%s": it %s', async text =>
    expect(await missingModule(world(text).host, 'overlay', true)).toBeUndefined(),
  );

  it.each([
    ['', 'blacklist overlay'],
    ['install /bin/false \n', 'install overlay /bin/false'],
    ['insmod /lib/modules/x/needed.ko \ninstall /bin/false \n', 'install overlay /bin/false'],
    ['install /usr/bin/true\n', 'install overlay /usr/bin/true'],
  ])('is a problem if modprobe prints "%s", as with "%s" in modprobe.d(5)', async text =>
    expect(await missingModule(world(text).host, 'overlay', true)).toEqual({
      what: 'this kernel does not support overlay: modprobe.d(5) forbids its module',
      fix: 'grep -rw overlay /etc/modprobe.d',
    }),
  );

  it.each([
    [[RELEASE], 'this kernel does not support overlay ("modprobe" failed)', 'modprobe overlay'],
    [['6.1.0-20-amd64'], /its modules are missing, there is no "\/lib\/modules\/6.1.0-18-amd64"$/, 'reboot'],
    [[], /its modules are missing/, `apt install linux-image-${RELEASE}`],
  ])('is a problem if there are only the modules of %j', async (kernels, what, fix) => {
    const found = await missingModule(world(undefined, ...kernels).host, 'overlay', true);
    expect(found?.what).toMatch(what);
    expect(found?.fix).toBe(fix);
  });

  it('is no problem if the kernel has it already, whatever modprobe says', async () => {
    const w = world(undefined);
    w.put('/proc/filesystems', 'nodev\toverlay\n');
    expect(await missingModule(w.host, 'overlay', true)).toBeUndefined();
    expect(w.ran).toEqual([]);
  });
});

it('a module that is loaded is known by its directory in /sys', async () => {
  const w = world(undefined, RELEASE);
  expect(await missingModule(w.host, 'dm-thin-pool', false)).toMatchObject({ fix: 'modprobe dm-thin-pool' });
  w.makeDirs('/sys/module/dm_thin_pool');
  expect(await missingModule(w.host, 'dm-thin-pool', false)).toBeUndefined();
});

describe('a mount that the kernel refuses', () => {
  const calls = [
    { source: '/dev/mapper/x', target: '/r', type: 'xfs', options: 'rw' },
    { source: 'mayfly', target: '/r/run', type: 'tmpfs', options: '' },
  ].map(makeMountOps());
  const failed = (stderr: string) => new MayflyError('command', '"perl" failed', { stderr });

  it('for lack of the file system is refused with its name', async () => {
    const error = failed('cannot mount /dev/mapper/x on /r: No such device\n');
    await expect(requireFileSystems(world(undefined, '6.2').host, calls, error)).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringMatching(/^this kernel does not support xfs: its modules are missing/),
      facts: { hint: 'reboot' },
    });
    await expect(requireFileSystems(world('insmod x\n').host, calls, error)).rejects.toMatchObject({
      message: 'this kernel does not support xfs',
      facts: { hint: 'modprobe xfs' },
    });
  });

  it.each([
    'cannot mount /dev/mapper/x on /r: No such file or directory',
    'cannot chroot to /r: No such device',
  ])('for another reason, such as "%s", is not', async stderr => {
    await requireFileSystems(world(undefined).host, calls, failed(stderr));
  });
});
