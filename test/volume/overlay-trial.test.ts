/** The trial of overlayfs that `init` makes, on real file systems. Needs root. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { tryOverlay } from '../../src/volume/overlay-trial.ts';
import { must } from '../system/lab.ts';

const isRoot = process.getuid?.() === 0;
const place = mkdtempSync(`${tmpdir()}/mayfly-trial-`);
const mounted: string[] = [];
const host = realHost();
const ON_DISK = { upper: 'disk', size: '50%' } as const;

/** A directory with a file system of its own. */
function fileSystem(name: string, mount: (at: string) => readonly string[]): string {
  const at = `${place}/${name}`;
  mkdirSync(at);
  must('mount', [...mount(at), at]);
  mounted.push(at);
  return at;
}

function ext4(name: string, ...features: readonly string[]): string {
  return fileSystem(name, () => {
    must('truncate', ['-s', '16M', `${place}/${name}.img`]);
    must('mkfs.ext4', ['-q', ...features, `${place}/${name}.img`]);
    return ['-o', 'loop', `${place}/${name}.img`];
  });
}

afterAll(() => {
  for (const at of mounted.reverse()) must('umount', [at]);
  rmSync(place, { recursive: true });
});

describe.skipIf(!isRoot)('the trial of overlayfs in a new pool', () => {
  const mounts = (): string[] =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(line => line.includes(place));

  it('is passed by ext4, and leaves nothing', async () => {
    const pool = ext4('good');
    const before = mounts();
    await tryOverlay(host, pool, ON_DISK);
    expect(readdirSync(pool)).toEqual(['lost+found']);
    expect(mounts()).toEqual(before);
  });

  it('is passed after one that was interrupted', async () => {
    const pool = fileSystem('again', () => ['-t', 'tmpfs', 'tmpfs']);
    mkdirSync(`${pool}/.trial/layers/upper/left`, { recursive: true });
    await tryOverlay(host, pool, ON_DISK);
    expect(readdirSync(pool)).toEqual([]);
  });

  it('is failed by a file system whose directories do not store the types of files', async () => {
    const pool = ext4('typeless', '-O', '^filetype');
    await expect(tryOverlay(host, pool, ON_DISK)).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringMatching(
        /^".*\/typeless" is on ext.*: deleted files stay visible: its directories /,
      ),
      facts: {
        hint: expect.stringMatching(/^set "pool.path" to a directory on ext4, .* ftype=1; or set "upper" in/),
      },
    });
    expect(readdirSync(pool)).toEqual(['lost+found']);
    await tryOverlay(host, pool, { upper: 'tmpfs', size: '1M' }); // the changes of sessions are elsewhere then
  });

  it('is failed by an overlay, which cannot be a layer of another one', async () => {
    const pool = fileSystem('overlay', at => {
      for (const name of ['lower', 'upper', 'work']) mkdirSync(`${at}-${name}`);
      const layers = `lowerdir=${at}-lower,upperdir=${at}-upper,workdir=${at}-work`;
      return ['-t', 'overlay', '-o', layers, 'overlay'];
    });
    await expect(tryOverlay(host, pool, ON_DISK)).rejects.toMatchObject({
      code: 'refused',
      message: expect.stringMatching(/\/overlay" is on overlayfs, which cannot hold .*: Invalid argument$/),
      facts: { hint: expect.stringMatching(/; or set "upper" in \[overlay\] to "tmpfs": /) },
    });
    await tryOverlay(host, pool, { upper: 'tmpfs', size: '1M' }); // as the hint says
    expect(readdirSync(pool)).toEqual([]);
  });
});
