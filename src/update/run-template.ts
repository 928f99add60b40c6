/** Finds out what a boot of the working copy would create in /run. */
import { MayflyError, reasonOf } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import type { RunEntry } from '../state/run-entries.ts';
import { runInChroot, workRoot } from './chroot.ts';

/**
 * The copy's own systemd-tmpfiles(8) does it, which knows its configuration and its users best, or else the host's. A bind
 * of the host's resolver may be in the private /run of a command, so another tmpfs covers it. Lines that cannot be applied
 * there are ignored, as at a boot.
 */
const SCRIPT = `run=$1/run
set -- --create --boot --prefix=/run
mount -t tmpfs -o mode=0755 run "$run" || exit
if chroot "\${run%/run}" sh -c 'command -v systemd-tmpfiles' >/dev/null 2>&1; then
	chroot "\${run%/run}" systemd-tmpfiles "$@" >&2
elif command -v systemd-tmpfiles >/dev/null; then
	systemd-tmpfiles --root="\${run%/run}" "$@" >&2
fi
find "$run" -mindepth 1 -type f -size +0 -size -9k -printf 'text %P\\n' -exec base64 -w0 {} ';' -printf '\\n\\0'
find "$run" -mindepth 1 -printf '%y %m %U %G %P\\n%l\\0'`;

/**
 * Not made in a session: what is Mayfly's, the directory of locks, which is the host's, and the file that forbids logins
 * until a boot is complete.
 */
const LEFT_OUT = new Set(['mayfly', 'lock', 'nologin']);

/** More would delay every login. */
const MOST = 2000;

/** Parses the output of {@link SCRIPT}. Pure. */
export function parseRunEntries(text: string): RunEntry[] {
  const texts = new Map<string, string>();
  const entries = text.split('\0').flatMap((record): RunEntry[] => {
    const end = record.indexOf('\n');
    const [head, data] = [record.slice(0, end), record.slice(end + 1)];
    if (head.startsWith('text ')) {
      texts.set(head.slice('text '.length), Buffer.from(data, 'base64').toString());
      return [];
    }
    const [, type, mode, uid, gid, path] = /^([dfl]) ([0-7]+) (\d+) (\d+) (.+)$/s.exec(head) ?? [];
    if ((type !== 'd' && type !== 'f' && type !== 'l') || mode === undefined || path === undefined) return [];
    if (LEFT_OUT.has(path.replace(/\/.*/s, ''))) return [];
    const numbers = { mode: Number.parseInt(mode, 8), uid: Number(uid), gid: Number(gid) };
    return [{ type, ...numbers, path, data: type === 'l' ? data : (texts.get(path) ?? '') }];
  });
  const isBefore = (a: RunEntry, b: RunEntry): number => (a.path < b.path ? -1 : 1);
  return entries.sort(isBefore).slice(0, MOST); // a directory comes before what is in it
}

/**
 * What a boot of the tree `tree` would create in /run; nothing without systemd-tmpfiles(8). A failure is only logged:
 * without the entries a few programs fail in sessions, without the update all miss it.
 */
export async function collectRunEntries(on: Machine, tree: string): Promise<RunEntry[]> {
  const o = { tree, timeout: 60, began: on.host.monotonic(), onLine: () => undefined, warn: () => undefined };
  const name = 'systemd-tmpfiles';
  try {
    const { stdout } = await runInChroot(on, o, ['sh', '-c', SCRIPT, 'sh', workRoot(on)], {
      ...{ chroot: false, read: true, name },
    });
    return parseRunEntries(stdout);
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error;
    on.log('warning', `sessions will lack what the image creates in /run: ${reasonOf(error)}`);
    return [];
  }
}
