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

function bench(kind: BackendKind, upper: 'disk' | 'tmpfs') {
  return async () => {
    const host = realHost();
    const dir = fs.mkdtempSync('/var/lib/mayfly-test-');
    const backend = openBackend(kind, host, `${dir}/memory.json`);
    const pool = `${dir}/pool`;
    const at = `${dir}/at`;
    fs.mkdirSync(pool);
    fs.mkdirSync(at);
    // A file system of its own, so that it can be filled.
    must('truncate', ['-s', kind === 'btrfs' ? '512M' : '64M', `${dir}/image`]);
    const format = kind === 'btrfs' ? ['mkfs.btrfs', '-q'] : ['mkfs.ext4', '-q', '-I', '256'];
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

it('a session on btrfs is removed by one command, which does not wait for its space: that can take half a minute', async () => {
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
    expect(ran).toEqual([`btrfs subvolume delete -- ${b.pool}/sessions/.old-u1001-0a0b0c0d/volume`]);
  } finally {
    await b.backend.remove(session);
    await b.backend.remove(generation);
    await b.close();
  }
});
