/** The host's driver against the image: when an update or a restart is due for it. */
import { describe, expect, it } from 'vitest';
import type { Context } from '../../src/cli/command.ts';
import { updateCommand } from '../../src/cli/update.ts';
import type { Machine } from '../../src/state/machine.ts';
import { makeDirectories } from '../../src/state/paths.ts';
import { writeHistory } from '../../src/state/update-history.ts';
import { rebootIfRequired } from '../../src/update/host-update.ts';
import { driverReason } from '../../src/update/kernel-match.ts';
import { preparedWorld, type World } from '../world.ts';

const TREE = '/var/lib/mayfly/pool/generation/1';

function addLibraries(w: World, root: string, version: string): void {
  const at = `${root}/usr/lib/x86_64-linux-gnu`;
  w.makeDirs(at);
  w.put(`${at}/libGLX_nvidia.so.${version}`, '');
}

/** A machine whose kernel has this module, with the libraries of the stable generation and of the host. */
function machineWith(loaded: string | undefined, tree: string | undefined, installed?: string): World {
  const w = preparedWorld();
  if (loaded !== undefined) {
    w.makeDirs('/sys/module/nvidia');
    w.put('/sys/module/nvidia/version', `${loaded}\n`);
  }
  if (tree !== undefined) addLibraries(w, TREE, tree);
  if (installed !== undefined) addLibraries(w, '', installed);
  w.reboot();
  makeDirectories(w.host, w.machine().paths);
  w.setClock(10 * 86_400_000); // ten days after the generation was made
  return w;
}

const [OLD, NEW] = ['535.183.01', '535.216.01'];
const MINUTE = 60_000;

describe('the host has got another driver', () => {
  it.each([
    ['the image has the libraries of the one before', NEW, OLD, NEW, true],
    ['and no libraries of its own', NEW, OLD, undefined, true],
    ['the image has those of the one that the next start brings', OLD, NEW, NEW, false],
    ['the image has the same', NEW, NEW, NEW, false],
    ['the image has none', NEW, undefined, NEW, false],
    ['there is no module', undefined, OLD, NEW, false],
  ])('%s', async (_what, loaded, tree, installed, isDue) => {
    const reason = await driverReason(machineWith(loaded, tree, installed).machine());
    expect(reason).toEqual(
      isDue ? `NVIDIA: the running kernel has the module ${loaded}, and this has ${tree}` : undefined,
    );
  });

  it.each([
    ['an update of the night before the restart', -30, 'failed', true],
    ['an update since then', 2, 'promoted', false],
    ['an update since then that found nothing', 2, 'unchanged', false],
    ['an update since then that failed, a moment ago', 65, 'failed', false],
    ['an update since then that failed, an hour ago', 2, 'failed', true],
    ['an update since then that was interrupted, an hour ago', 2, 'interrupted', true],
    ['the last update is in the future, by a clock that was wrong', 900, 'promoted', true],
  ] as const)('and there was %s', async (_what, minutes, result, isDue) => {
    const w = machineWith(NEW, OLD, NEW);
    const { host, paths } = w.machine();
    const booted = host.now() - host.monotonic();
    await host.sleep(70 * MINUTE);
    writeHistory(host, paths, { lastAttempt: booted + minutes * MINUTE, result });
    expect((await driverReason(w.machine())) !== undefined).toBe(isDue);
  });

  it.each([
    ['--if-missed', { ifMissed: true }],
    ['--if-due', { ifDue: true }],
  ])('an update with %s does not wait for its time, nor for other machines', async (_option, option) => {
    const shown: string[] = [];
    const run = async (w: World): Promise<number> => {
      const { host, paths } = w.machine();
      writeHistory(host, paths, { lastAttempt: host.now() - host.monotonic() - MINUTE, result: 'failed' });
      const flags = { dryRun: true } as Context['flags'];
      const context = {
        machine: async () => w.machine(),
        flags,
        show: (_: unknown, text: string) => shown.push(text),
      };
      shown.length = 0;
      const args = { ...option, scheduled: true, spread: true };
      const code = await updateCommand.run(args as never, context as unknown as Context);
      expect(code).toBe(0);
      return shown.length;
    };
    // At the hour of the last attempt, no other is due.
    expect(await run(machineWith(NEW, NEW, NEW))).toBe(0);
    expect(await run(machineWith(NEW, OLD, NEW))).toBe(1);
  });

  it('and the generation is on a device: it is mounted to be looked at', async () => {
    const w = machineWith(NEW, undefined, NEW);
    const mounted: string[] = [];
    const nodes = w.volumes.get(TREE)?.nodes;
    const [directory, file] = [nodes?.get('/usr/lib'), nodes?.get('/etc/passwd')];
    if (!nodes || !directory || !file) throw new Error('no generation');
    nodes.set('/usr/lib/x86_64-linux-gnu', directory);
    nodes.set(`/usr/lib/x86_64-linux-gnu/libcuda.so.${OLD}`, file);
    const on: Machine = {
      ...w.machine(),
      backend: () => ({
        ...w.backend(),
        path: () => undefined,
        attachTree: (v, at) => {
          mounted.push(`${v.role} ${v.name}`);
          return w.backend().mount(v, at);
        },
        detachTree: async v => void mounted.push(`-${v.role} ${v.name}`),
      }),
    };
    expect(await driverReason(on)).toContain(OLD);
    expect(mounted).toEqual(['generation 1', '-generation 1']);
  });
});

describe('a restart for the driver', () => {
  const restartOf = async (w: World, onDisk: string | undefined): Promise<string | undefined> => {
    w.makeDirs('/etc/mayfly');
    w.put('/etc/mayfly/mayfly.toml', '[host]\nreboot = "idle"\n');
    w.programs.modinfo = args => {
      expect(args).toEqual(['-F', 'version', 'nvidia', 'nvidia-current', 'nvidia-current-open']);
      return { code: 1, stdout: onDisk === undefined ? '' : `${onDisk}\n` };
    };
    return rebootIfRequired(w.machine());
  };
  it('happens when the module on disk is that of the libraries, and the kernel runs the one before', async () => {
    const w = machineWith(OLD, OLD, NEW);
    expect(await restartOf(w, NEW)).toBe(`the driver of NVIDIA was updated to ${NEW}`);
    expect(w.ran.filter(c => c.startsWith('shutdown'))).toHaveLength(1);
  });
  it.each([
    ['the module was not built for this kernel', OLD, NEW, OLD],
    ['there is no module on disk', OLD, NEW, undefined],
    ['the kernel runs it already', NEW, NEW, NEW],
    ['the host has no libraries', NEW, undefined, NEW],
    ['there is no module', undefined, NEW, NEW],
  ])('does not happen when %s', async (_what, loaded, installed, onDisk) => {
    const w = machineWith(loaded, OLD, installed);
    expect(await restartOf(w, onDisk)).toBeUndefined();
    expect(w.ran.filter(c => c.startsWith('shutdown'))).toEqual([]);
  });
  it('does not happen where it cannot be told', async () => {
    const w = machineWith(OLD, OLD, NEW);
    w.failing.add('modinfo');
    expect(await restartOf(w, NEW)).toBeUndefined();
  });
});
