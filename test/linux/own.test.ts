/** Directories that must belong to root: taking them over, and the way to them. On real files; needs root. */
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { dryRun } from '../../src/linux/dry-run.ts';
import { openParents } from '../../src/linux/files.ts';
import { realHost } from '../../src/linux/real-host.ts';

const place = mkdtempSync(`${tmpdir()}/mayfly-own-`);
afterAll(() => rmSync(place, { recursive: true }));
const host = realHost();
const isRoot = process.getuid?.() === 0;

/** Makes a directory of uid 1234. */
function theirs(name: string, mode: number): string {
  const path = `${place}/${name}`;
  mkdirSync(path);
  chownSync(path, 1234, 1234);
  chmodSync(path, mode);
  return path;
}

describe.skipIf(!isRoot)('a directory given to root', () => {
  it.each([0o755, 0o777, 0o2775, 0o1777])('loses its owner, its group and mode %o', mode => {
    const path = theirs(`d${mode}`, mode);
    host.own(path, 0o700);
    const { uid, gid, mode: now } = lstatSync(path);
    expect([uid, gid, now & 0o7777]).toEqual([0, 0, 0o700]);
    const before = lstatSync(path).ctimeMs;
    host.own(path, 0o700);
    expect(lstatSync(path).ctimeMs).toBe(before);
  });

  it('is refused if it is a symlink or a file, which keep what they lead to', () => {
    const path = theirs('target', 0o755);
    symlinkSync(path, `${place}/link`);
    writeFileSync(`${place}/file`, '', { mode: 0o644 });
    for (const name of ['link', 'file'])
      expect(() => host.own(`${place}/${name}`, 0o700)).toThrow(/ is not a directory$/);
    expect(lstatSync(path)).toMatchObject({ uid: 1234, gid: 1234 });
  });

  it('is refused if its file system keeps no modes', () =>
    expect(() => host.own('/proc/self/fd', 0o700)).toThrow(/^"\/proc\/self\/fd" cannot be made accessible/));

  it('is a line of a dry run', () => {
    const path = theirs('dry', 0o755);
    const lines: string[] = [];
    const dry = dryRun(host, line => lines.push(line));
    dry.own(path, 0o700);
    dry.own(`${place}/absent`, 0o700);
    expect(lines).toEqual([`give ${path} to root, with mode 0700`]);
    expect(lstatSync(path).uid).toBe(1234);
  });
});

describe.skipIf(!isRoot)('the directories on the way to a path', () => {
  const open = (path: string): string[] => openParents(host, path).map(o => o.path);
  it('are safe below root, also in a directory with the sticky bit', () =>
    expect(open(`${place}/x/y`)).toEqual([]));
  it('are those of other owners, and those that others can write to', () => {
    const a = theirs('a', 0o755);
    mkdirSync(`${place}/b`);
    chmodSync(`${place}/b`, 0o775);
    expect(open(`${a}/pool`)).toEqual([a]);
    expect(open(`${a}/x/pool`)).toEqual([a]);
    expect(open(`${place}/b/pool`)).toEqual([`${place}/b`]);
    expect(open(a)).toEqual([]);
  });
  it('are also those on the way to the target of a symlink, relative or not', () => {
    const c = theirs('c', 0o755);
    mkdirSync(`${c}/safe`);
    symlinkSync(`${c}/safe`, `${place}/absolute`);
    symlinkSync('c/safe', `${place}/relative`);
    symlinkSync('loop', `${place}/loop`);
    expect(open(`${place}/absolute/pool`)).toEqual([c]);
    expect(open(`${place}/relative/pool`)).toEqual([`${place}/c`]);
    expect(open(`${place}/loop/pool`)).toEqual([]);
  });
});
