/** Detaching a tree of mounts without affecting the host's own. */
import { expect, it } from 'vitest';
import type { Command } from '../../src/linux/command.ts';
import { makeMountOps, mountCommand } from '../../src/linux/mount-program.ts';
import { detach, isMounted } from '../../src/linux/mounts.ts';
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
