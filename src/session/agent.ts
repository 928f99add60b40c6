/**
 * The agent: a process that is always there and answers the hooks. Starting Node.js and compiling the program is most of what
 * a login takes; the agent has done both. The service starts it (see `service/agent-process.ts`). Nothing depends on it:
 * whoever gets no answer runs the hook in a process of its own, which does the same by the same code.
 */
import { type Client, serveClients } from '../linux/agent-socket.ts';
import type { Runner } from '../linux/command.ts';
import { type HelperRunner, helperRunner } from '../linux/helper.ts';
import type { Host } from '../linux/host.ts';
import { RUN_IT_YOURSELF } from './own-process.ts';

/** The first field of a request. Another word means another protocol, and the client does the work itself. */
const PROTOCOL = 'mayfly-hook-3';

/** What the entry point does with the arguments of a hook. */
export interface HookRunner {
  /** Runs the hook of a client, and commands by `runner`. `extend`: see {@link Client}. Returns its exit code. */
  run(request: Request, runner: Runner, extend: (seconds: number) => void): Promise<number>;
  /** Seconds within which a hook with these arguments ends. */
  limit(args: readonly string[]): Promise<number>;
  /** Lets the code be compiled that a login needs. Never rejects. */
  warmUp(): Promise<void>;
  /** Runs `act`, and sends to `to` what it prints. */
  withOutput<T>(to: (fd: 1 | 2, text: Uint8Array) => void, act: () => Promise<T>): Promise<T>;
}

/** The identity of a file: another one is there after an upgrade. */
function fileKey(host: Pick<Host, 'stat'>, path: string): string {
  const s = host.stat(path);
  return s === undefined ? '' : [s.dev, s.ino, s.size, s.mtimeMs].join();
}

/** A request: what the client's process is, and the hook that it stands for. */
export interface Request {
  readonly client: number;
  readonly env: NodeJS.ProcessEnv;
  readonly args: readonly string[];
}

/**
 * Reads a request; undefined if the client must do the work itself: it is of another version than the file that had the
 * key `own`, or wants a dry run, which describes its effects when its process ends, or does not name its caller. Pure.
 */
export function requestOf(
  host: Pick<Host, 'stat'>,
  fields: readonly string[],
  own: string,
): Request | undefined {
  const [protocol, program = '', pid, USER = '', DISPLAY = '', XAUTHORITY = '', ...args] = fields;
  const client = Number(pid);
  const isOurs = protocol === PROTOCOL && own !== '' && fileKey(host, program) === own;
  if (!isOurs || !(Number.isInteger(client) && client > 1)) return undefined;
  if (args[0] !== 'hook' || args.includes('--dry-run') || !args.includes('--caller')) return undefined;
  return { client, env: { USER, DISPLAY, XAUTHORITY }, args };
}

/** Milliseconds that calls have for their completion after a fault of the agent, of which one may never end. */
const AFTER_FAULT = 60_000;

/**
 * Answers hooks at a socket in `directory`. Ends when standard input does, because whoever started it has ended or wants it to
 * end, and on SIGTERM. Then it takes no more requests and completes those that it has begun. So it does after a fault that
 * belongs to no call, which it throws.
 */
export async function serveHooks(
  host: Pick<Host, 'stat' | 'unlink'>,
  directory: string,
  program: string,
  hook: HookRunner,
): Promise<void> {
  const own = fileKey(host, program);
  const path = `${directory}/${process.pid}.sock`;
  const over = new Promise<Error | undefined>(resolve => {
    process.stdin.on('end', () => resolve(undefined));
    process.on('SIGTERM', () => resolve(undefined));
    process.on('uncaughtException', resolve);
  });
  const starting = helperRunner();
  answerService(starting);
  const runner = await starting;
  const server = await serveClients(path, {
    async accepts(fields) {
      const request = requestOf(host, fields, own);
      return request && hook.limit(request.args);
    },
    async answer({ fields, send, extend }: Client) {
      const request = requestOf(host, fields, own);
      if (request === undefined) return RUN_IT_YOURSELF;
      return hook.withOutput(send, () => hook.run(request, runner, extend));
    },
  });
  void hook.warmUp(); // whoever comes meanwhile only waits a little longer
  const fault = await over;
  const timer = fault && setTimeout(() => process.exit(1), AFTER_FAULT);
  await server.close();
  clearTimeout(timer);
  host.unlink(path);
  if (fault !== undefined) throw fault;
}

/** Answers the question of the service, if this thread still runs. The helper is asked, too, and replaced if need be. */
function answerService(runner: Promise<HelperRunner>): void {
  process.stdout.on('error', () => undefined); // the service has ended: what was begun is completed
  process.stdin.on('data', async (asked: Buffer) => {
    await (await runner).check();
    process.stdout.write(asked);
  });
}
