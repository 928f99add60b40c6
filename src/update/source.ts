/** Fills the first tree: from a new Debian installation, the running system, a directory or a tarball. */

import type { Config } from '../config/config.ts';
import { MayflyError } from '../errors.ts';
import type { Command } from '../linux/command.ts';
import type { Host } from '../linux/host.ts';
import { type AptSources, aptSources, SITE_CERTIFICATES } from './apt-sources.ts';
import { errorLines } from './chroot.ts';
import { copyHost, extractInto } from './host-copy.ts';
import { sourceTrees } from './source-trees.ts';

/** Gets a line for each step; with `detail`, a line of a command's output. */
export type Progress = (line: string, detail?: boolean) => void;

export type Source =
  | {
      readonly kind: 'debootstrap';
      readonly suite: string;
      readonly variant: string;
      readonly packages: readonly string[];
    }
  | { readonly kind: 'directory' | 'tarball'; readonly path: string }
  | { readonly kind: 'host' };

/** The source as text. */
export function describeSource(s: Source): string {
  switch (s.kind) {
    case 'debootstrap':
      return `debootstrap ${s.suite} (${s.variant}${s.packages.length > 0 ? `, with ${s.packages.join(', ')}` : ''})`;
    case 'host':
      return 'the running system';
    default:
      return `${s.kind} ${s.path}`;
  }
}

/** Throws `usage` if the directory or tarball does not exist, and `missing-tool` if a program is not installed. */
export async function checkSource(host: Host, s: Source): Promise<void> {
  if (s.kind === 'directory' || s.kind === 'tarball') {
    const wanted = s.kind === 'directory' ? 'dir' : 'file';
    const there = host.stat(s.path);
    if (there?.kind !== wanted)
      throw new MayflyError('usage', `"${s.path}" is not a ${s.kind}`, { path: s.path });
    return;
  }
  const tool = s.kind === 'debootstrap' ? 'mmdebstrap' : 'tar';
  await host.run({ file: tool, args: ['--version'], effect: 'read' });
}

export interface FillOptions {
  readonly source: Source;
  readonly say: Progress;
  readonly config: Config;
  /** A file that is written and removed meanwhile. */
  readonly list: string;
}

/** Fills `tree` from the source. `own` are Mayfly's directories, which are left out. Throws `command`. */
export async function fillTree(
  host: Host,
  tree: string,
  o: FillOptions,
  own: readonly string[],
): Promise<void> {
  const { source, say } = o;
  const onLine = (line: string): void => say(line, true);
  switch (source.kind) {
    case 'directory': {
      const from = source.path;
      const isOwn = (path: string): boolean => own.includes(from + path);
      const { subvolumes, mounts } = await sourceTrees(host, from, isOwn);
      for (const path of mounts) say(`"${from}${path}" is not copied: it is a mount`);
      for (const part of ['', ...subvolumes]) {
        const args = [
          '-a',
          '--reflink=auto',
          '--one-file-system',
          '-T',
          '--',
          `${from}${part}/`,
          tree + part,
        ];
        await host.run({ file: 'cp', args, effect: 'write', onLine });
      }
      return;
    }
    case 'tarball':
      await untar(host, tree, source.path, say);
      return;
    case 'host':
      await copyHost({ ...o, host, tree, own, root: '' });
      return;
    case 'debootstrap':
      await runWithReason(host, {
        ...mmdebstrap(source, tree, await aptSources(host, source.suite)),
        onLine,
      });
      return;
  }
}

/** Picks the members with attributes, and their ACLs, from tar's list. */
const ACLS = '^([-dlbcphsCV]([r-][w-][xsS-]){2}[r-][w-][xtT-][+*]|  a: |  x: +[0-9]+ system\\.posix_acl_)';

/**
 * Extracts an archive. Tools in Go, such as those of containers, record ACLs as extended attributes, which tar(1) drops
 * if it is told to restore ACLs; others record them as ACLs only, which it restores only if it is told to.
 */
async function untar(host: Host, tree: string, file: string, say: Progress): Promise<void> {
  const list = ['--list', '-vvv', '--acls', '--xattrs', '--xattrs-include=*', '-f', file];
  const { stdout } = await host.run({
    ...{ file: 'grep', args: ['-aE', '--', ACLS], effect: 'read', okCodes: [0, 1] },
    pipeFrom: { file: 'tar', args: list },
  });
  const { asRecords, asAttributes } = aclForms(stdout);
  if (asRecords && asAttributes)
    say(`"${file}" records ACLs in two ways; those that are not extended attributes are lost`);
  await host.run({ ...extractInto(tree, file, asRecords && !asAttributes), onLine: line => say(line, true) });
}

/** How an archive records ACLs: whether some are ACL records only, and some extended attributes only. Pure. */
export function aclForms(list: string): { readonly asRecords: boolean; readonly asAttributes: boolean } {
  const members = `\n${list}`.split(/\n(?! )/);
  const has = (member: string, mark: string): boolean => member.includes(`\n  ${mark}: `);
  return {
    asRecords: members.some(m => has(m, 'a') && !has(m, 'x')),
    asAttributes: members.some(m => has(m, 'x') && !has(m, 'a')),
  };
}

/** Runs a command of which the first lines say what it does, and the last or marked ones why it fails. */
async function runWithReason(host: Host, c: Command): Promise<void> {
  try {
    await host.run(c);
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    const reason = errorLines(String(error.facts.stderr ?? '').split('\n')).join('; ');
    const what = `"${c.file}" failed with exit code ${error.facts.exitCode}: ${reason}`;
    throw new MayflyError('command', what, error.facts, { cause: error });
  }
}

function mmdebstrap(
  s: Extract<Source, { kind: 'debootstrap' }>,
  tree: string,
  { mirrors, keys, settings, packages }: AptSources,
): Command {
  const wanted = [...new Set([...s.packages, ...packages])];
  const include = wanted.length > 0 ? [`--include=${wanted.join(',')}`] : [];
  // Keys that no package installs: the tree could not be updated without them.
  const copy = `for key in ${keys.join(' ')}; do [ -e "$1$key" ] || install -D -m 0644 "$key" "$1$key"; done`;
  const certify = keys.some(key => key.startsWith(`${SITE_CERTIFICATES}/`))
    ? ['--customize-hook=chroot "$1" update-ca-certificates']
    : [];
  return {
    file: 'mmdebstrap',
    args: [
      '--mode=root',
      '--format=directory',
      `--variant=${s.variant}`,
      ...include,
      ...settings.map(line => `--aptopt=${line}`),
      ...(keys.length > 0 ? [`--customize-hook=${copy}`] : []),
      ...certify,
      s.suite,
      tree,
      ...mirrors,
    ],
    effect: 'write',
  };
}
