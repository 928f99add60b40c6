/** The type of the file system that a path is on, as stat(1) names it, for example "btrfs" or "ext2/ext3". */
import type { Host } from './host.ts';

/** Throws `command` if there is nothing at the path. */
export async function fileSystemType(host: Host, path: string): Promise<string> {
  const stat = await host.run({ file: 'stat', args: ['-f', '-c', '%T', '--', path], effect: 'read' });
  return stat.stdout.trim();
}
