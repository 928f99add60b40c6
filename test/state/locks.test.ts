/** Locks on real files: what happens to who waits for a file that somebody unlinks. */
import { mkdtempSync, readFileSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, expect, it } from 'vitest';
import { dryRun } from '../../src/linux/dry-run.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { takeLock } from '../../src/state/locks.ts';
import type { Paths } from '../../src/state/paths.ts';

const host = realHost();
const locks = mkdtempSync(`${tmpdir()}/mayfly-locks-`);
const paths = { locks } as Paths;
const file = `${locks}/update`;
const take = (seconds: number) => takeLock(host, paths, 'update', seconds);

afterAll(() => rmSync(locks, { recursive: true }));

/** Waits until the kernel shows a process that waits for the lock on this inode. */
async function awaitWaiter(inode: number): Promise<void> {
  const waits = new RegExp(`-> FLOCK .*:${inode} `);
  while (!waits.test(readFileSync('/proc/locks', 'utf8'))) await host.sleep(5);
}

it('one that is free is taken, and not given twice', async () => {
  const lock = await take(0);
  await expect(take(0)).rejects.toMatchObject({ code: 'locked' });
  lock.release();
  (await take(0)).release();
});

it('one whose file was unlinked while it was waited for is the lock on the new file', async () => {
  const first = await take(0);
  const second = take(60);
  await awaitWaiter(statSync(file).ino);
  unlinkSync(file);
  first.release();
  const lock = await second;
  await expect(take(0)).rejects.toMatchObject({ code: 'locked' }); // everybody else opens the new file
  lock.release();
});

it('one whose file was unlinked and is locked anew is not given to who waited for the old one', async () => {
  const first = await take(0);
  const second = take(1);
  await awaitWaiter(statSync(file).ino);
  unlinkSync(file);
  const third = await take(0);
  first.release();
  await expect(second).rejects.toMatchObject({ code: 'locked' });
  third.release();
});

it('a dry run takes none', async () => {
  (await take(0)).release();
  const lock = await takeLock(
    dryRun(host, () => undefined),
    paths,
    'update',
    1,
  );
  (await take(0)).release();
  lock.release();
});
