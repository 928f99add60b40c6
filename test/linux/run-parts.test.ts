/** Scripts run as root only if nobody else could have written them. */
import { describe, expect, it } from 'vitest';
import type { Host, Stat } from '../../src/linux/host.ts';
import { scriptsIn } from '../../src/linux/run-parts.ts';

const MINE = { kind: 'file', dev: 1, ino: 1, uid: 0, gid: 0, mode: 0o755, size: 1 } as const;
const TIMES = { mtimeMs: 0, ctimeMs: 0, birthtimeMs: 0 } as const;

/** A host with a directory `/d`. */
function hostWith(files: Readonly<Record<string, Partial<Stat>>>, directory: Partial<Stat> = {}): Host {
  return {
    list: (path: string) => (path === '/d' ? Object.keys(files) : []),
    stat: (path: string): Stat | undefined => {
      if (path === '/d') return { ...MINE, ...TIMES, kind: 'dir', ...directory };
      const own = files[path.slice('/d/'.length)];
      return own && { ...MINE, ...TIMES, ...own };
    },
  } as unknown as Host;
}

describe('scripts of a directory', () => {
  it('are its executable files with plain names, in order', () =>
    expect(
      scriptsIn(
        hostWith({
          ...{ '10-a': {}, '20_b': {}, 'x.dpkg-new': {}, '.hidden': {}, 'c~': {} },
          ...{ README: { mode: 0o644 }, sub: { kind: 'dir' } },
        }),
        '/d',
      ),
    ).toEqual(['/d/10-a', '/d/20_b']));

  it('are none where there is no directory', () =>
    expect(scriptsIn({ list: () => [], stat: () => undefined } as unknown as Host, '/d')).toEqual([]));

  it.each<[string, Partial<Stat>]>([
    ['writable by everybody', { mode: 0o757 }],
    ['writable by its group', { mode: 0o775 }],
    ['of another owner', { uid: 1001 }],
  ])('are refused if one is %s', (_what, stat) =>
    expect(() => scriptsIn(hostWith({ ok: {}, 'not-ok': stat }), '/d')).toThrow(/"\/d\/not-ok" is writable/),
  );

  it.each<[string, Partial<Stat>]>([
    ['writable by everybody', { mode: 0o757 }],
    ['writable by its group', { mode: 0o775 }],
    ['of another owner', { uid: 1001 }],
  ])('are refused if the directory is %s', (_what, stat) =>
    expect(() => scriptsIn(hostWith({ ok: {} }, stat), '/d')).toThrow(/"\/d" is writable/),
  );

  it('that nobody runs may be writable by others', () =>
    expect(scriptsIn(hostWith({ 'a.txt': { mode: 0o777 }, b: { mode: 0o666 } }), '/d')).toEqual([]));
});
