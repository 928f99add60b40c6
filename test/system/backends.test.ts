/** The contract over the real backends. */
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Host } from '../../src/linux/host.ts';
import { realHost } from '../../src/linux/real-host.ts';
import type { BackendKind, Volume } from '../../src/volume/backend.ts';
import { volumePath } from '../../src/volume/directory-layout.ts';
import { openBackend } from '../../src/volume/open.ts';
import { contract } from '../volume/contract.ts';
import { dyingHost } from '../volume/dying.ts';
import { must, sh } from './lab.ts';
import { sitDown, standUp } from './sitters.ts';

function bench(
  kind: BackendKind,
  upper: 'disk' | 'tmpfs',
  on = kind === 'btrfs' ? '512M btrfs' : '64M ext4',
) {
  return async () => {
    const host = realHost();
    const dir = fs.mkdtempSync('/var/lib/mayfly-test-');
    const backend = openBackend(kind, host, `${dir}/memory.json`);
    const pool = `${dir}/pool`;
    const at = `${dir}/at`;
    fs.mkdirSync(pool);
    fs.mkdirSync(at);
    // A file system of its own, so that it can be filled.
    const [size = '', fileSystem] = on.split(' ');
    must('truncate', ['-s', size, `${dir}/image`]);
    const format = fileSystem === 'btrfs' ? ['mkfs.btrfs', '-q'] : ['mkfs.ext4', '-q', '-I', '256'];
    must(format[0] ?? '', [...format.slice(1), `${dir}/image`]);
    must('mount', ['-o', 'loop', `${dir}/image`, pool]);
    await backend.prepare(pool);
    const filling = `${pool}/.filling`;
    return {
      backend,
      pool,
      upper,
      async enter(v: Parameters<typeof backend.mount>[0]) {
        if (v.role !== 'session') return backend.path(v) ?? '';
        const root = `${at}/${v.name}`;
        fs.mkdirSync(root, { recursive: true });
        const m = await backend.mount(v, root);
        must('mount', [...(m.type === 'none' ? [] : ['-t', m.type]), '-o', m.options, m.source, m.target]);
        // An open file, as a person's program would have: btrfs alone would not notice the mount.
        sitDown(root);
        return root;
      },
      async leave(v: Parameters<typeof backend.mount>[0]) {
        const root = `${at}/${v.name}`;
        if (v.role !== 'session') return;
        await standUp(root);
        must('umount', [root]);
        fs.rmdirSync(root);
      },
      write: (path: string, text: string) => fs.writeFileSync(path, text),
      read: (path: string) => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined),
      async foreign(v: Parameters<typeof backend.mount>[0]) {
        if (kind === 'btrfs') fs.mkdirSync(volumePath(v));
        fs.writeFileSync(kind === 'btrfs' ? `${volumePath(v)}/letter` : volumePath(v), 'not a volume');
      },
      async unplant(v: Parameters<typeof backend.mount>[0]) {
        fs.rmSync(volumePath(v), { recursive: true });
      },
      dying: (at: number) => openBackend(kind, dyingHost(host, at)),
      fill() {
        // To the last block, which a file made by large writes alone would leave.
        for (const size of ['1M', '4k', '1k'])
          sh('dd', [
            'if=/dev/zero',
            `of=${filling}`,
            `bs=${size}`,
            'oflag=append',
            'conv=notrunc',
            'status=none',
          ]);
        must('sync', ['-f', pool]);
        expect(fs.statfsSync(pool).bavail).toBe(0);
      },
      empty() {
        fs.rmSync(filling);
        must('sync', ['-f', pool]);
      },
      async close() {
        must('umount', [pool]);
        fs.rmSync(dir, { recursive: true });
      },
    };
  };
}

contract('overlay on disk', bench('overlay', 'disk'), { spares: 'no spares' });
contract('overlay on tmpfs', bench('overlay', 'tmpfs'), { spares: 'no spares' });
contract('btrfs', bench('btrfs', 'disk'));

describe('the identity of a generation on btrfs', () => {
  it('is asked of btrfs once for as long as no generation comes or goes, in whatever process', async () => {
    const b = await bench('btrfs', 'disk')();
    const memory = `${b.pool}/../asked.json`;
    const asked: string[] = [];
    const host: Host = {
      ...realHost(),
      run(c) {
        asked.push(`${c.file} ${c.args.join(' ')}`);
        return realHost().run(c);
      },
    };
    const generation = (n: number): Volume => ({
      ...{ backend: 'btrfs', pool: b.pool, role: 'generation', name: String(n) },
    });
    const identity = (n: number) => openBackend('btrfs', host, memory).identity(generation(n));
    try {
      await b.backend.create(generation(1));
      await b.backend.create(generation(2));
      const [one, two] = [await identity(1), await identity(2)];
      expect(asked).toHaveLength(2);
      expect([await identity(1), await identity(2), await identity(1)]).toEqual([one, two, one]);
      expect(asked).toHaveLength(2);
      await b.backend.remove(generation(2));
      expect(await identity(1)).toBe(one);
      expect(asked).toHaveLength(3);
      await b.backend.create(generation(2));
      expect(await identity(2)).not.toBe(two);
      fs.writeFileSync(memory, '{"directory":"cut');
      expect(await identity(1)).toBe(one);
    } finally {
      for (const n of [1, 2]) await b.backend.remove(generation(n));
      await b.close();
    }
  });
});

it('a session on btrfs is removed with the subvolumes that somebody has made in it', async () => {
  const b = await bench('btrfs', 'disk')();
  const generation: Volume = { backend: 'btrfs', pool: b.pool, role: 'generation', name: '1' };
  const session = { ...generation, role: 'session', name: 'u1001-0a0b0c0d', origin: generation } as const;
  const root = `${b.pool}/sessions/${session.name}/volume`;
  try {
    await b.backend.create(generation);
    await b.backend.fork(generation, session);
    fs.mkdirSync(`${root}/a\nb`);
    for (const path of ['one', 'a\nb/-two', 'a\nb/-two/three'])
      must('btrfs', ['subvolume', 'create', `${root}/${path}`]);
    must('btrfs', ['property', 'set', '-ts', `${root}/a\nb/-two/three`, 'ro', 'true']);
    must('chattr', ['+i', `${root}/one`]);
    await b.backend.remove(session);
    expect(await b.backend.list(b.pool)).toMatchObject({ volumes: [generation], leftovers: [] });
    expect(must('btrfs', ['subvolume', 'list', b.pool]).match(/ path /g)).toHaveLength(1);
  } finally {
    await b.backend.remove(generation);
    await b.close();
  }
});

it.each(['session', 'work'] as const)(
  'a %s volume on btrfs is removed although root has made it, or a subvolume in it, the default one',
  async role => {
    const b = await bench('btrfs', 'disk')();
    const generation: Volume = { backend: 'btrfs', pool: b.pool, role: 'generation', name: '1' };
    const session = { ...generation, role: 'session', name: 'u1001-0a0b0c0d', origin: generation } as const;
    const volume = role === 'session' ? session : ({ ...generation, role: 'work', name: 'work' } as const);
    const root = role === 'session' ? `${volumePath(volume)}/volume` : volumePath(volume);
    try {
      await b.backend.create(generation);
      for (const path of ['', '/one/two']) {
        await b.backend.fork(generation, volume);
        for (const nested of ['one', 'one/two']) must('btrfs', ['subvolume', 'create', `${root}/${nested}`]);
        must('btrfs', ['subvolume', 'set-default', root + path]);
        await b.backend.remove(volume);
        expect(must('btrfs', ['subvolume', 'get-default', b.pool])).toMatch(/^ID 5 /);
        expect(must('btrfs', ['subvolume', 'list', b.pool]).match(/ path /g)).toHaveLength(1);
      }
      // That of somebody else stays.
      must('btrfs', ['subvolume', 'set-default', volumePath(generation)]);
      await b.backend.fork(generation, volume);
      must('btrfs', ['subvolume', 'create', `${root}/one`]);
      await b.backend.remove(volume);
      expect(must('btrfs', ['subvolume', 'get-default', b.pool])).toMatch(/ path generations\/1$/m);
    } finally {
      await b.backend.remove(volume);
      await b.backend.remove(generation);
      await b.close();
    }
  },
);

it('a session on btrfs is removed by a look and an eraser, which do not wait for its space: that can take half a minute', async () => {
  const b = await bench('btrfs', 'disk')();
  const ran: string[] = [];
  const host: Host = {
    ...realHost(),
    run(c) {
      ran.push(`${c.file} ${c.args.join(' ')}`);
      return realHost().run(c);
    },
  };
  const generation: Volume = { backend: 'btrfs', pool: b.pool, role: 'generation', name: '1' };
  const session = { ...generation, role: 'session', name: 'u1001-0a0b0c0d', origin: generation } as const;
  try {
    await b.backend.create(generation);
    await b.backend.fork(generation, session);
    await openBackend('btrfs', host).remove(session);
    expect(ran.map(command => command.split(' ')[0])).toEqual(['perl', 'perl']);
  } finally {
    await b.backend.remove(session);
    await b.backend.remove(generation);
    await b.close();
  }
});

/** Creates files of 1900 bytes, which btrfs keeps in its metadata, until nothing can be created. Returns how many. */
function fillNames(directory: string): number {
  const program =
    'my ($at, $n, $failed) = (shift, 0, 0); while ($failed < 3) { my $d = "$at/" . int($n / 1000);' +
    ' mkdir $d; my $f; open($f, ">", "$d/$n") && (syswrite($f, "x" x 1900) // 0) == 1900 && close($f) ? $n++ : $failed++ } print $n';
  return Number(must('timeout', ['300', 'perl', '-e', program, directory]));
}

describe.each([
  ['btrfs', '128M btrfs', 'metadata'],
  ['overlay', '128M btrfs', 'metadata'],
  ['overlay', '64M ext4', 'inodes'],
] as const)('a session on %s in %s that has used up its %s', (kind, on, what) => {
  it('is taken away all the same, and so is what was discarded before; the usage says what is scarce', async () => {
    const b = await bench(kind, 'disk', on)();
    const generation: Volume = { backend: kind, pool: b.pool, role: 'generation', name: '1' };
    const session = (id: string) =>
      ({ ...generation, role: 'session', name: `u1001-${id}`, origin: generation }) as const;
    const [greedy, discarded, other, next] = ['0a0b0c0d', '0a0b0c0e', '0a0b0c0f', '0a0b0c10'].map(session);
    if (!greedy || !discarded || !other || !next) throw new Error('no session');
    const treeOf = (v: Volume) => `${volumePath(v)}/${kind === 'btrfs' ? 'volume' : 'upper'}`;
    const names = async () => (await b.backend.list(b.pool)).volumes.map(v => v.name);
    const canRename = (): boolean => {
      try {
        fs.renameSync(`${b.pool}/one`, `${b.pool}/a-longer-name`);
        fs.renameSync(`${b.pool}/a-longer-name`, `${b.pool}/one`);
        return true;
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOSPC' });
        return false;
      }
    };
    try {
      await b.backend.create(generation);
      for (const v of [greedy, discarded, other]) await b.backend.fork(generation, v);
      // Its logout was interrupted after the rename.
      fs.renameSync(volumePath(discarded), volumePath(discarded).replace('/u1001', '/.old-u1001'));
      fs.mkdirSync(`${b.pool}/one`);
      expect((await b.backend.usage(b.pool)).percent).toBeLessThan(50);
      fs.writeFileSync(`${treeOf(other)}/file`, 'of another session');
      expect(fillNames(treeOf(greedy))).toBeGreaterThan(1000);
      must('sync', ['-f', b.pool]);
      const usage = await b.backend.usage(b.pool);
      expect(usage.of).toBe(what);
      expect(usage.percent).toBeGreaterThan(95);
      expect(canRename()).toBe(what === 'inodes');

      const left = await b.backend.list(b.pool);
      expect(left.discarded.map(d => d.session)).toEqual([discarded.name]);
      for (const { name } of left.discarded) await b.backend.sweep(b.pool, name);
      expect(canRename()).toBe(what === 'inodes');
      await b.backend.discard?.(greedy);
      expect(await names()).toEqual(['1', other.name]);
      for (const { name } of (await b.backend.list(b.pool)).discarded) await b.backend.sweep(b.pool, name);
      if (kind === 'btrfs') must('btrfs', ['subvolume', 'sync', b.pool]);
      must('sync', ['-f', b.pool]);
      expect(fs.readFileSync(`${treeOf(other)}/file`, 'utf8')).toBe('of another session');
      expect((await b.backend.usage(b.pool)).percent).toBeLessThan(50);
      await b.backend.fork(generation, next);
      await b.backend.remove(next);
    } finally {
      for (const v of [greedy, discarded, other, next, generation]) await b.backend.remove(v);
      await b.close();
    }
  });
});
