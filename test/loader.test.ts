/** The cache of compiled code: a damaged one is never used, and a hook that crashes is run again without it. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

const PAGE = 4096;
let dir: string;
let good: Buffer;

/** A program with as much code as Mayfly's, all of which runs. */
const functions = Array.from(
  { length: 400 },
  (_, i) =>
    `function f${i}(a){const o={k${i}:a,t:"text ${i}"};for(const x of [a,${i}])o.t+=x;return o.t.length}`,
);
const calls = functions.map((_, i) => `n+=f${i}(${i});`);
const source = `(function(require,keepCode){${functions.join('\n')}let n=0;${calls.join('')}keepCode();console.log(n,process.argv.length)})`;

const program = (): string => `${dir}/dist/mayfly.cjs`;
const start = (...more: string[]) =>
  spawnSync('node', [program(), 'hook', 'lightdm', 'start', ...more], { encoding: 'utf8' });
const caches = (): string[] => fs.readdirSync(`${dir}/dist`).filter(name => name.endsWith('.code'));
const cache = (): string => `${dir}/dist/${caches()[0]}`;

beforeAll(() => {
  dir = fs.mkdtempSync(`${tmpdir()}/mayfly-loader-`);
  fs.cpSync('hooks', `${dir}/hooks`, { recursive: true });
  buildSync({
    ...{ entryPoints: ['src/loader.ts'], outfile: program(), bundle: true, platform: 'node', format: 'cjs' },
    define: { MAYFLY_DIGEST: '"digest"' },
  });
  fs.writeFileSync(`${dir}/dist/hot.js`, source);
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

// Only root writes a cache.
describe.runIf(process.getuid?.() === 0)('a cache of compiled code', () => {
  beforeEach(() => {
    for (const name of caches()) fs.unlinkSync(`${dir}/dist/${name}`);
    expect(start().status).toBe(0);
    good = fs.readFileSync(cache());
  });

  it('is used again and again', () => {
    const { mtimeNs } = fs.statSync(cache(), { bigint: true });
    expect(start().status).toBe(0);
    expect(fs.statSync(cache(), { bigint: true }).mtimeNs).toBe(mtimeNs);
  });

  it('with a page of zeros, wherever it is, is replaced and crashes nothing', () => {
    const healthy = start().stdout;
    const pages = Math.ceil(good.length / PAGE);
    expect(pages).toBeGreaterThan(10);
    for (let page = 0; page < pages; page += Math.ceil(pages / 12)) {
      const bad = Buffer.from(good);
      bad.fill(0, page * PAGE, (page + 1) * PAGE);
      fs.writeFileSync(cache(), bad);
      const r = start();
      expect([page, r.signal, r.status, r.stdout]).toEqual([page, null, 0, healthy]);
      expect(
        fs
          .readFileSync(cache())
          .subarray(page * PAGE)
          .some(byte => byte !== 0),
      ).toBe(true);
      expect(fs.readFileSync(cache()).equals(bad)).toBe(false);
    }
  });

  it.each<[string, (whole: Buffer) => Buffer]>([
    ['is empty', () => Buffer.alloc(0)],
    ['has one byte', whole => whole.subarray(0, 1)],
    ['is cut in half', whole => whole.subarray(0, whole.length / 2)],
    ['lacks its last byte', whole => whole.subarray(0, -1)],
    ['is nothing but zeros', whole => Buffer.alloc(whole.length)],
    ['has one changed bit', whole => Buffer.from(whole.map((b, i) => (i === 5000 ? b ^ 1 : b)))],
  ])('that %s is replaced', (_what, damage) => {
    const bad = damage(good);
    fs.writeFileSync(cache(), bad);
    const r = start();
    expect([r.signal, r.status]).toEqual([null, 0]);
    expect(fs.readFileSync(cache()).equals(bad)).toBe(false);
  });

  it('is replaced with --no-cache, of which the program knows nothing', () => {
    fs.writeFileSync(cache(), good);
    const { ino } = fs.statSync(cache());
    fs.linkSync(cache(), `${dir}/kept`);
    expect(start('--no-cache').stdout).toBe(start().stdout);
    expect(fs.statSync(cache()).ino).not.toBe(ino);
    fs.unlinkSync(`${dir}/kept`);
  });
});

describe('a hook whose program crashes', () => {
  const crashing = (signal: string): void =>
    fs.writeFileSync(
      program(),
      `console.log(process.argv.slice(2).join(' '));
       if (process.argv.at(-1) !== '--no-cache') process.kill(process.pid, '${signal}');
       else process.exit(3);
       setInterval(() => undefined, 1000);`,
    );
  const call = (hook: string) =>
    spawnSync(`${dir}/hooks/${hook}`, ['--quiet'], {
      env: { USER: 'alice', PAM_TYPE: 'open_session', PAM_SERVICE: 'x-autologin', PAM_USER: 'alice' },
      encoding: 'utf8',
    });
  const lines = (action: string): string => `hook ${action} --caller ${process.pid} --quiet`;

  it.each(['SIGSEGV', 'SIGBUS', 'SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGFPE'])('by %s is run again', signal => {
    crashing(signal);
    const r = call('lightdm/session-setup');
    expect(r.status).toBe(3);
    expect(r.stdout).toBe(`${lines('lightdm start')}\n${lines('lightdm start')} --no-cache\n`);
  });

  it.each(['SIGTERM', 'SIGKILL', 'SIGHUP'])('is not if somebody ended it by %s', signal => {
    crashing(signal);
    const r = call('lightdm/session-cleanup');
    expect(r.status).toBeGreaterThan(128);
    expect(r.stdout).toBe(`${lines('lightdm stop')}\n`);
  });

  it.each([
    ['lightdm/session-cleanup', 3, `${lines('lightdm stop')} --no-cache\n`],
    ['gdm/PreSession', 0, `${lines('gdm start')} --no-cache\n`],
  ])('is run again by %s', (hook, status, said) => {
    crashing('SIGSEGV');
    const r = call(hook);
    expect([r.status, r.stdout.endsWith(said)]).toEqual([status, true]);
  });
});
