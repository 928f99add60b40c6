/** The order in which an update makes things durable: a power cut leaves nothing that names what is not there. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';
import type { Host } from '../../src/linux/host.ts';
import { realHost } from '../../src/linux/real-host.ts';
import type { Machine } from '../../src/state/machine.ts';
import { update } from '../../src/update/update.ts';
import { generationOf, masterOf, workOf } from '../../src/volume/backend.ts';
import { overlayBackend } from '../../src/volume/overlay.ts';
import { preparedWorld } from '../world.ts';

/** Logs what survives a power cut, and what does not. */
function logged(host: Host, log: string[]): Host {
  const name = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
  return {
    ...host,
    write(path, text, o) {
      if (!path.includes('/run/')) log.push(`write ${name(path)}${o.durable ? '' : ' (not durable)'}`);
      host.write(path, text, o);
    },
    symlink(target, path) {
      log.push(`symlink ${name(path)}`);
      host.symlink(target, path);
    },
    rename(from, to) {
      log.push(`rename ${name(from)} to ${name(to)}`);
      host.rename(from, to);
    },
    sync(path) {
      log.push(`sync ${name(path)}`);
      host.sync(path);
    },
    run(c) {
      log.push(`run ${c.file} ${c.args.slice(0, 2).join(' ')}`);
      return host.run(c);
    },
  };
}

it('a promotion: number, volume, record, intent, commit, pointer', async () => {
  const pool = { backend: 'overlay', path: '/var/lib/mayfly/pool' } as const;
  const w = preparedWorld();
  w.makeDirs('/etc/mayfly');
  w.put('/etc/mayfly/mayfly.toml', '[check]\nuser = "bob"\n');
  await w.backend().fork(generationOf(pool, 1), masterOf(pool));
  const log: string[] = [];
  const plain = w.machine();
  const backend = w.backend();
  const on: Machine = {
    ...plain,
    host: logged(plain.host, log),
    backend: () => ({
      ...backend,
      fork(from, to, options) {
        if (to.role === 'generation') log.push(`fork ${to.role} ${to.name}`);
        return backend.fork(from, to, options);
      },
    }),
  };
  const o = { what: 'x', origin: 'test', force: true, say: () => undefined, change: async () => true };
  expect((await update(on, o)).result).toBe('promoted');
  const order = [
    'write last',
    'fork generation 2',
    'write 2.candidate',
    'write adopt',
    'rename 2.candidate to 2.json',
    'sync generations',
    'symlink stable',
    'sync mayfly',
  ];
  expect(log.filter(line => order.includes(line.replace(' (not durable)', '')))).toEqual(order);
});

it('a generation in a directory: its files before its name', async () => {
  const path = mkdtempSync(`${tmpdir()}/mayfly-durable-`);
  try {
    const pool = { backend: 'overlay', path } as const;
    mkdirSync(`${path}/work`);
    mkdirSync(`${path}/generations`);
    writeFileSync(`${path}/work/file`, '');
    const log: string[] = [];
    await overlayBackend(logged(realHost(), log)).fork(workOf(pool), generationOf(pool, 1));
    expect(log).toEqual([
      'run cp -a --reflink=auto',
      'run sync -f --',
      'rename .new-1 to 1',
      'sync generations',
    ]);
  } finally {
    rmSync(path, { recursive: true });
  }
});
