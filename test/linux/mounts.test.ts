/** Detaching a tree of mounts without affecting the host's own. */
import { describe, expect, it } from 'vitest';
import type { Command } from '../../src/linux/command.ts';
import { makeMountOps, mountCommand } from '../../src/linux/mount-program.ts';
import { detach, isMounted, planMountOps, requireMountTargets } from '../../src/linux/mounts.ts';
import { Died, World } from '../world.ts';

/** A tree with a bind of the host's /dev; the process crashed before it made the bind a slave. */
async function interrupted(): Promise<World> {
  const w = new World();
  w.mountEmpty('/root');
  w.makeDirs('/root/dev');
  w.newProcess();
  w.dieAt = 3; // the command itself, the bind, and then its propagation
  const bind = { source: '/dev', target: '/root/dev', type: 'none', options: 'rbind,rslave' };
  await expect(w.host.run(mountCommand([makeMountOps()(bind)]))).rejects.toThrow(Died);
  w.newProcess();
  expect(isMounted(w.host, '/root/dev')).toBe(true);
  return w;
}

it('a tree whose mounting was interrupted becomes a slave first, so that the host keeps its mounts', async () => {
  const w = await interrupted();
  await detach(w.host, '/root', true);
  expect(w.host.lstat('/root')).toBeUndefined();
  expect(isMounted(w.host, '/dev/pts')).toBe(true);
});

it('the machine in memory would otherwise lose the host’s mounts, as the kernel does', async () => {
  const w = await interrupted();
  await detach(w.host, '/root', false);
  expect(isMounted(w.host, '/dev/pts')).toBe(false);
});

it.each([
  [true, ['slave', 'detach']],
  [false, ['detach']],
])('interrupted %s: %j, in one process', async (unfinished, ops) => {
  const w = new World();
  w.mountEmpty('/root');
  const ran: Command[] = [];
  const run = (c: Command) => {
    ran.push(c);
    return w.host.run(c);
  };
  await detach({ ...w.host, run }, '/root', unfinished, [7]);
  expect(ran).toHaveLength(1);
  expect(ran[0]?.args.filter(a => a === 'slave' || a === 'detach')).toEqual(ops);
  expect(ran[0]?.inheritFds).toEqual([7]);
});

it('a mount point that is not a directory, or not empty after unmounting, is left alone', async () => {
  const w = new World();
  w.put('/file', '');
  await expect(detach(w.host, '/file', false)).rejects.toMatchObject({ code: 'unsafe' });
  w.makeDirs('/full/of/files');
  await expect(detach(w.host, '/full', false)).rejects.toMatchObject({ code: 'stuck' });
  expect(w.host.lstat('/full/of/files')).toBeDefined();
  await detach(w.host, '/absent', false);
});

describe('mount targets', () => {
  const w = new World();
  for (const path of ['/base/proc', '/base/run', '/base/var/tmp', '/base/etc']) w.makeDirs(path);
  w.put('/base/file', '');
  for (const path of ['/base/home', '/base/var/lib', '/base/run/link', '/base/etc/link'])
    w.host.symlink('/etc', path);
  const root = { source: 'o', target: '/r', type: 'overlay', options: 'x' };
  const bind = (source: string, file = false) => ({
    source,
    target: `/r${source}`,
    type: 'none',
    options: 'bind,slave',
    ...(file ? { file } : {}),
  });
  const run = { source: 'm', target: '/r/run', type: 'tmpfs', options: 'mode=0755' };
  const places = (...mounts: Parameters<typeof planMountOps>[1]) =>
    planMountOps(root, mounts)
      .filter(c => c.op !== 'mount')
      .map(c => `${c.op} ${c.target}`);
  it('are checked from the top, each once', () =>
    expect(places(bind('/proc'), bind('/var/tmp'), bind('/var/lib'))).toEqual([
      'dir /r/proc',
      'dir /r/var',
      'dir /r/var/tmp',
      'dir /r/var/lib',
    ]));
  it('below a bind belong to the host and are not checked', () =>
    expect(places(bind('/proc'), bind('/proc/sys/x'))).toEqual(['dir /r/proc']));
  it('are created right before their mount, as files for sockets', () =>
    expect(planMountOps(root, [run, bind('/run/notify', true)]).map(c => `${c.op} ${c.target}`)).toEqual([
      'mount /r',
      'dir /r/run',
      'mount /r/run',
      'file /r/run/notify',
      'mount /r/run/notify',
    ]));
  const refuse = (...mounts: Parameters<typeof planMountOps>[1]) =>
    requireMountTargets(w.host, '/base', planMountOps(root, mounts));
  it.each([
    ['exist', [bind('/proc'), bind('/var/tmp'), bind('/file', true)]],
    ['are missing', [bind('/media/usb')]],
    ['are below the session’s own /run', [run, bind('/run/link')]],
    ['are a symlink in the place of /home', [bind('/home')]],
    ['are symlinks on the way to a home directory', [{ ...bind('/home/x'), plain: true }]],
    ['are below a bind', [bind('/etc'), bind('/etc/link')]],
  ])('that %s are accepted', (_, mounts) => expect(() => refuse(...mounts)).not.toThrow());
  it.each([
    [bind('/run/link'), /"\/run\/link" in the generation is a symlink/],
    [{ ...bind('/var/lib'), plain: true }, /"\/var\/lib" in the generation is a symlink/],
    [bind('/home/x'), /"\/home" in the generation is a symlink/],
    [bind('/file'), /"\/file" in the generation is a file/],
    [bind('/etc', true), /"\/etc" in the generation is a directory; cannot mount "\/etc" on it/],
  ])('%j is refused', (m, message) => expect(() => refuse(m)).toThrow(message));
});
