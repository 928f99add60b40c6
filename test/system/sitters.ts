/** Somebody at work in a tree: an open file of ours, and another process with its directory there. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';

const holders = new Map<string, number>();
const sitters = new Map<string, number>();

/** Another process with its working directory in the tree. */
function startSitter(root: string): number {
  const out = spawnSync('sh', ['-c', 'cd "$1" && { sleep 1000 >/dev/null 2>&1 & echo $!; }', 'sh', root], {
    encoding: 'utf8',
  });
  return Number(out.stdout);
}

/**
 * Whether a process has let go of everything: it is gone, or dead and not yet waited for. That /proc shows its
 * directory no more says less: the kernel takes it from the process first and lets go of it then (exit_fs in
 * fs/fs_struct.c), and on a busy machine somebody else runs in between.
 */
function isOver(pid: number): boolean {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    return /^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return true;
  }
}

export function sitDown(root: string): void {
  holders.set(root, fs.openSync(`${root}/file`, 'r'));
  sitters.set(root, startSitter(root));
}

export async function standUp(root: string): Promise<void> {
  const fd = holders.get(root);
  if (fd !== undefined) fs.closeSync(fd);
  const pid = sitters.get(root);
  if (pid === undefined) return;
  process.kill(pid, 'SIGKILL');
  while (!isOver(pid)) await new Promise(yes => setTimeout(yes, 5));
}
