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

function canRead(link: string): boolean {
  try {
    return fs.readlinkSync(link) !== '';
  } catch {
    return false;
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
  while (fs.existsSync(`/proc/${pid}/exe`) && canRead(`/proc/${pid}/cwd`))
    await new Promise(yes => setTimeout(yes, 5));
}
