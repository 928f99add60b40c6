/**
 * What a boot of a generation's tree would create in /run, by its tmpfiles.d(5). It is found out when the generation is
 * sealed and kept beside its record, so that a login only has to make it, and no root process reads the tree for it.
 */
import type { Host } from '../linux/host.ts';
import type { Paths } from './paths.ts';

/** A directory, a file or a symlink in /run. */
export interface RunEntry {
  readonly type: 'd' | 'f' | 'l';
  /** Permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Below /run, such as "screen". */
  readonly path: string;
  /** The target of a symlink, or the text of a file. */
  readonly data: string;
}

export function runEntriesPath(paths: Pick<Paths, 'generations'>, number: number): string {
  return `${paths.generations}/${number}.run`;
}

export function writeRunEntries(
  host: Host,
  paths: Paths,
  number: number,
  entries: readonly RunEntry[],
): void {
  host.write(runEntriesPath(paths, number), `${JSON.stringify(entries)}\n`, { mode: 0o600, durable: true });
}

/** Empty for a generation that an earlier version has sealed; also if the file is damaged: a login works without it. */
export function readRunEntries(host: Host, paths: Paths, number: number): readonly RunEntry[] {
  const text = host.read(runEntriesPath(paths, number));
  if (text === undefined) return [];
  try {
    const entries: unknown = JSON.parse(text);
    return Array.isArray(entries) ? entries : [];
  } catch {
    return [];
  }
}
