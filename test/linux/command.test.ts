/** The locks that a command keeps when it is left running. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, expect, it } from 'vitest';
import { runCommand } from '../../src/linux/command.ts';

const directory = mkdtempSync(`${tmpdir()}/mayfly-`);
afterAll(() => rmSync(directory, { recursive: true }));

const lock = (fd: number): boolean =>
  spawnSync('flock', ['-n', '-x', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] }).status === 0;

async function leave(path: string, seconds: number, closes: boolean): Promise<number> {
  const mine = openSync(path, 'w');
  expect(lock(mine)).toBe(true);
  const args = ['-c', `exec 3>&-; sleep ${seconds}`];
  const command = {
    file: 'sh',
    args,
    effect: 'write',
    inheritFds: [mine],
    closesInheritedFds: closes,
  } as const;
  await expect(runCommand(command, Date.now() + 300)).rejects.toMatchObject({ code: 'timeout' });
  closeSync(mine);
  return openSync(path, 'w');
}

const free = async (fd: number): Promise<void> => {
  while (!lock(fd)) await new Promise(yes => setTimeout(yes, 50));
};

it('a command keeps an inherited lock after we closed it, also if it closes inherited descriptors', async () => {
  const fd = await leave(`${directory}/a`, 1, true);
  expect(lock(fd)).toBe(false);
  await free(fd); // after the command has ended
  closeSync(fd);
});

it('a command keeps no lock if it closes inherited descriptors and did not announce it', async () => {
  const fd = await leave(`${directory}/b`, 5, false);
  const begun = Date.now();
  await free(fd);
  expect(Date.now() - begun).toBeLessThan(4000);
  closeSync(fd);
});
