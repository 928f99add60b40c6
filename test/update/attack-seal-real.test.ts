/** Attacks on the seals with real files, in a temporary directory. Those that fail are findings. */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { describe, expect, it, vi } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import type { Machine } from '../../src/state/machine.ts';
import { markOf, type Seal } from '../../src/state/seals.ts';
import { countTree } from '../../src/update/tree-content.ts';
import { compareWithSeal } from '../../src/update/unrecorded.ts';
import { generationOf } from '../../src/volume/backend.ts';
import { protectLayout } from '../../src/volume/directory-layout.ts';
import { overlayBackend } from '../../src/volume/overlay.ts';
import { MARK, readMarkIn, writeMarkIn } from '../../src/volume/seal-files.ts';

const host = realHost();
const sh = (file: string, ...args: string[]) => spawnSync(file, args, { encoding: 'utf8' });

async function pool(act: (dir: string, on: Machine, seal: Seal) => Promise<void>, more: (tree: string) => void = () => undefined): Promise<void> {
  const dir = fs.mkdtempSync('/tmp/attack-seal-');
  try {
    const tree = `${dir}/pool/generations/2`;
    for (const p of [`${tree}/etc/alternatives`, `${tree}/usr/bin`, `${dir}/pool/master`, `${dir}/pool/seals`, `${dir}/pool/sessions`]) fs.mkdirSync(p, { recursive: true });
    fs.writeFileSync(`${dir}/pool/.mayfly-pool`, 'x');
    fs.symlinkSync('/usr/share/zoneinfo/UTC', `${tree}/etc/localtime`);
    fs.symlinkSync('../usr/bin', `${tree}/etc/up`);
    fs.writeFileSync(`${tree}/etc/passwd`, 'root');
    fs.writeFileSync(`${tree}/usr/bin/su`, 'x');
    fs.chownSync(`${tree}/usr/bin/su`, 0, 29);
    fs.chmodSync(`${tree}/usr/bin/su`, 0o4755);
    fs.writeFileSync(`${tree}/${MARK}`, markOf(2, 'ab12'));
    more(tree);
    const backend = overlayBackend(host);
    const on = { host, backend: () => backend, log: () => undefined, lockFds: [] } as unknown as Machine;
    const v = generationOf({ backend: 'overlay', path: `${dir}/pool` }, 2);
    const seal: Seal = { number: 2, id: 'ab12', marked: true, created: '2026-01-01T00:00:00.000Z', origin: 'x', proven: true,
      identity: (await backend.identity(v)) ?? '', content: await countTree(host, tree) };
    expect(await compareWithSeal(on, v, seal)).toBe('sealed');
    await act(dir, on, seal);
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}
const compare = (dir: string, on: Machine, seal: Seal) => compareWithSeal(on, generationOf({ backend: 'overlay', path: `${dir}/pool` }, 2), seal);
const tree = (dir: string) => `${dir}/pool/generations/2`;

describe('a copy', () => {
  it('S1 by tar that is still running, or was killed, in master: absolute and upward symlinks are files of no bytes', () =>
    pool(async (dir, on, seal) => {
      fs.writeFileSync(`${dir}/pool/master/big`, Buffer.alloc(2 ** 20));
      sh('tar', '--sort=name', '-cf', `${dir}/p.tar`, '-C', dir, 'pool/generations', 'pool/master');
      const bytes = fs.readFileSync(`${dir}/p.tar`).subarray(0, -(2 ** 19));
      fs.renameSync(`${dir}/pool`, `${dir}/old`);
      const tar = spawn('tar', ['-xpf', '-', '-C', dir], { stdio: ['pipe', 'inherit', 'inherit'] });
      tar.stdin?.write(bytes); // and no end: the rest comes later, or never
      const big = `${dir}/pool/master/big`;
      await vi.waitUntil(() => fs.existsSync(big) && fs.statSync(big).size > 2 ** 18, { timeout: 20_000 });
      tar.kill('SIGKILL');
      const s = fs.lstatSync(`${tree(dir)}/etc/localtime`);
      const is = await compare(dir, on, seal);
      console.log('S1', s.isFile(), s.size, (s.mode & 0o7777).toString(8), is);
      expect(s.isSymbolicLink() || is !== 'moved').toBe(true);
    }));
  it('S2 by cp -r has other owners, and no set-user-ID bit', () =>
    pool(async (dir, on, seal) => {
      fs.renameSync(`${dir}/pool`, `${dir}/old`);
      sh('cp', '-r', `${dir}/old`, `${dir}/pool`);
      const s = fs.statSync(`${tree(dir)}/usr/bin/su`);
      console.log('S2', (s.mode & 0o7777).toString(8), s.gid, await compare(dir, on, seal));
      expect(await compare(dir, on, seal)).not.toBe('moved');
    }));
  it('S2b by rsync-like without owners after a failure of chown: all belongs to one user', () =>
    pool(async (dir, on, seal) => {
      fs.renameSync(`${dir}/pool`, `${dir}/old`);
      sh('cp', '-a', `${dir}/old`, `${dir}/pool`);
      sh('chown', '-hR', '1000:1000', tree(dir));
      fs.chownSync(`${tree(dir)}/${MARK}`, 0, 0);
      expect(await compare(dir, on, seal)).not.toBe('moved');
    }));
  it('S3 by tar lacks sockets, and is complete', () =>
    pool(
      async (dir, on, seal) => {
        sh('tar', '-cf', `${dir}/p.tar`, '-C', dir, 'pool');
        fs.renameSync(`${dir}/pool`, `${dir}/old`);
        const r = sh('tar', '-xpf', `${dir}/p.tar`, '-C', dir);
        console.log('S3', r.status, await compare(dir, on, seal));
        expect(await compare(dir, on, seal)).toBe('moved');
      },
      at => {
        sh('python3', '-c', 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])', `${at}/etc/s`);
        expect(fs.lstatSync(`${at}/etc/s`).isSocket()).toBe(true);
      },
    ));
  it('S3b by cp -a, tar -S, rsync -a of names with newlines, hard links, sparse and FIFO', () =>
    pool(
      async (dir, on, seal) => {
        fs.renameSync(`${dir}/pool`, `${dir}/old`);
        sh('cp', '-a', `${dir}/old`, `${dir}/pool`);
        expect(await compare(dir, on, seal)).toBe('moved');
        fs.rmSync(`${dir}/pool`, { recursive: true });
        sh('sh', '-c', `cd ${dir} && mkdir pool && tar -C old -cf - . | tar -C pool -xpf -`);
        expect(await compare(dir, on, seal)).toBe('moved');
      },
      at => {
        fs.writeFileSync(`${at}/etc/a\nb\n`, 'x');
        fs.linkSync(`${at}/etc/passwd`, `${at}/etc/hard`);
        sh('truncate', '-s', '5M', `${at}/etc/sparse`);
        sh('mkfifo', `${at}/etc/fifo`);
        sh('mknod', `${at}/etc/dev`, 'c', '1', '3');
      },
    ));
});

describe('the mark and the seal', () => {
  it('S4 a seal that is a FIFO does not stop recovery', () =>
    pool(async dir => {
      sh('mkfifo', `${dir}/pool/seals/2.json`);
      const read = `import('${import.meta.dirname}/../../src/volume/seal-files.ts').then(async m => { const { realHost } = await import('${import.meta.dirname}/../../src/linux/real-host.ts'); console.log(m.readSealTexts(realHost(), '${dir}/pool')); })`;
      fs.writeFileSync(`${dir}/read.mjs`, read);
      const r = sh('timeout', '-s', 'KILL', '15', 'npx', 'esbuild', '--version');
      sh('npx', 'esbuild', `${import.meta.dirname}/../../src/volume/seal-files.ts`, '--bundle', '--platform=node', '--format=esm', `--outfile=${dir}/s.mjs`);
      sh('npx', 'esbuild', `${import.meta.dirname}/../../src/linux/real-host.ts`, '--bundle', '--platform=node', '--format=cjs', `--outfile=${dir}/h.cjs`);
      fs.writeFileSync(`${dir}/read.mjs`, `import { readSealTexts } from './s.mjs'; import h from './h.cjs'; console.log(readSealTexts(h.realHost(), '${dir}/pool'));`);
      const out = sh('timeout', '-s', 'KILL', '15', 'node', `${dir}/read.mjs`);
      console.log('S4', r.status, out.status, out.signal, out.stdout, out.stderr);
      expect(out.status).toBe(0);
    }));
  it('S4c the mark is a directory, a FIFO or a link: it is none, and nothing hangs', () =>
    pool(async (dir, on, seal) => {
      for (const make of [() => fs.mkdirSync(`${tree(dir)}/${MARK}`), () => sh('mkfifo', `${tree(dir)}/${MARK}`), () => fs.symlinkSync('/dev/zero', `${tree(dir)}/${MARK}`)]) {
        fs.rmSync(`${tree(dir)}/${MARK}`, { recursive: true });
        make();
        expect(readMarkIn(host, tree(dir))).toBeUndefined();
        expect(await compare(dir, on, seal)).toBe('another');
      }
    }));
  it('S8 a directory with the name of the mark in the working copy: sealing goes on', () =>
    pool(async dir => {
      fs.rmSync(`${tree(dir)}/${MARK}`);
      fs.mkdirSync(`${tree(dir)}/${MARK}`);
      expect(() => writeMarkIn(host, tree(dir), '3 cd\n')).not.toThrow();
    }));
  it('S8b and removing it', () =>
    pool(async dir => {
      fs.rmSync(`${tree(dir)}/${MARK}`);
      fs.mkdirSync(`${tree(dir)}/${MARK}`);
      expect(() => writeMarkIn(host, tree(dir), undefined)).not.toThrow();
    }));
  it('S5 a pool of an earlier version without room for the directory of seals is still opened (destroy, gc)', () =>
    pool(async dir => {
      fs.rmdirSync(`${dir}/pool/seals`);
      const full = {
        ...host,
        mkdir: (p: string, m: number) => {
          if (!fs.existsSync(p)) throw Object.assign(new Error('ENOSPC: no space left on device, mkdir'), { code: 'ENOSPC' });
          host.mkdir(p, m);
        },
      };
      expect(() => protectLayout(full, `${dir}/pool`)).not.toThrow();
    }));
  it('S5b the directory of seals is a file', () =>
    pool(async dir => {
      fs.rmdirSync(`${dir}/pool/seals`);
      fs.writeFileSync(`${dir}/pool/seals`, '');
      expect(() => protectLayout(host, `${dir}/pool`)).not.toThrow();
    }));
  it('S7 the count takes nothing of a find that failed half way', () =>
    pool(async dir => {
      const bad = { ...host, run: async (c: Parameters<typeof host.run>[0]) => host.run({ ...c, args: [...c.args.slice(0, 1), `${tree(dir)}/nowhere`, ...c.args.slice(1)] }) };
      await expect(countTree(bad, tree(dir))).rejects.toThrow();
    }));
});
