/** Gives the working copy a place for the host's resolver configuration while commands run in it. */
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';

const PATH = '/etc/resolv.conf';

/** The path in the commands' own /run that the copy's link leads to; undefined if it leads elsewhere. Pure. */
export function linkIntoRun(target: string): string | undefined {
  const absolute = target.replace(/^(\.\.?\/)+/, match => (match.includes('..') ? '/' : match));
  const inRun = absolute.replace(/^\/var\/run\//, '/run/');
  return /^\/run(\/[\w.-]+)+$/.test(inRun) && !inRun.includes('/.') ? inRun : undefined;
}

/**
 * Runs `act`. If the copy has no resolv.conf, or a link to a place that is not in /run, such as that of an absent network
 * manager, an empty file takes its place meanwhile, on which the host's is mounted. If this process is killed, the copy is
 * thrown away.
 */
export async function withResolver<T>(host: Host, tree: string, act: () => Promise<T>): Promise<T> {
  const path = tree + PATH;
  const there = isPlainDirectory(host, tree, '/etc') ? host.lstat(path) : undefined;
  const target = there?.kind === 'link' ? host.readlink(path) : undefined;
  const isUsable = there ? target === undefined || linkIntoRun(target) !== undefined : false;
  if (isUsable || !isPlainDirectory(host, tree, '/etc')) return act();
  host.unlink(path);
  host.write(path, '', { mode: 0o644 });
  try {
    return await act();
  } finally {
    // Another text is a file that the refresh has written.
    if (host.lstat(path)?.kind === 'file' && host.read(path) === '') {
      host.unlink(path);
      if (target !== undefined) host.symlink(target, path);
    }
  }
}
