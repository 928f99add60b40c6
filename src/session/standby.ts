/**
 * A hook that has been started ahead: Node.js is up and the program loaded, which is most of the time of a login. The
 * service keeps one waiting (see `service/standby-process.ts`). It answers one call of a hook, in a process of its own as
 * ever, and exits. Without it, the hook starts Node.js itself: nothing depends on it.
 */
import type { Host } from '../linux/host.ts';
import { acceptOne } from '../linux/standby-socket.ts';

/** The first field of a request. Another word means another protocol, and the client does the work itself. */
const PROTOCOL = 'mayfly-hook-1';

/** What the entry point does with the arguments of a hook. */
export interface HookRunner {
  /** Runs a hook with these arguments and environment, and returns its exit code. */
  run(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number>;
  /** Sends what is printed from now on elsewhere. */
  redirect(to: (fd: 1 | 2, text: Uint8Array) => void): void;
}

/** The identity of a file: another one is there after an upgrade. */
function fileKey(host: Pick<Host, 'stat'>, path: string): string {
  const s = host.stat(path);
  return s === undefined ? '' : [s.dev, s.ino, s.size, s.mtimeMs].join();
}

/** Whether a request is for the program whose file had the key `own` when it was started. Pure. */
export function isForUs(host: Pick<Host, 'stat'>, fields: readonly string[], own: string): boolean {
  const [protocol, program = ''] = fields;
  return protocol === PROTOCOL && own !== '' && fileKey(host, program) === own;
}

/**
 * Waits at a socket in `directory` for one call of a hook and answers it. Returns also if the client went away. Ends when
 * standard input does: whoever started it has ended.
 */
export async function standBy(
  host: Pick<Host, 'stat' | 'unlink'>,
  directory: string,
  program: string,
  hook: HookRunner,
): Promise<void> {
  const own = fileKey(host, program);
  const path = `${directory}/${process.pid}.sock`;
  let isBusy = false;
  process.stdin.resume().on('end', () => {
    if (isBusy) return;
    host.unlink(path);
    process.exit(0);
  });
  await import('node:child_process'); // what every login loads
  const client = await acceptOne(path, fields => isForUs(host, fields, own));
  if (client === undefined) return;
  isBusy = true;
  const [, , USER = '', DISPLAY = '', XAUTHORITY = '', ...args] = client.fields;
  hook.redirect(client.send);
  await client.end(await hook.run(args, { USER, DISPLAY, XAUTHORITY }));
}
