/** `mayfly hook ADAPTER start|stop`: what display managers run. Everything on this path loads nothing but Node's own. */
import { type Call, callOf } from './adapters/call.ts';
import { say } from './command.ts';
import { loadConfig } from './config.ts';
import { dryRun } from './dry-run.ts';
import { MayflyError, reasonOf } from './errors.ts';
import { type Host, realHost } from './host.ts';
import { MARKER } from './identity.ts';
import { makeLog } from './log.ts';
import { screenOf, showRefusal } from './refusal.ts';
import { login, logout, onStuck, prepareNext, stop } from './session.ts';
import { pathsOf, type Session, userDirectory } from './state.ts';
import type { Machine } from './steps.ts';
import { lookupUser } from './users.ts';
import { type BackendKind, backendOf, type VolumeBackend } from './volume/backend.ts';

export interface HookOptions {
  readonly adapter: 'gdm' | 'lightdm';
  readonly action: 'start' | 'stop';
  readonly config: string | undefined;
  /** The display manager's process, where it is not our parent. */
  readonly caller: number | undefined;
  readonly dryRun: boolean;
  readonly amount: 'quiet' | 'normal' | 'verbose';
}

/** Without a deadline for commands; made once. */
const thisHost = realHost();

/** Everything together, on the real machine. `seconds` bounds the commands run through it. */
export async function openMachine(
  o: Pick<HookOptions, 'config' | 'dryRun' | 'amount'>,
  seconds?: (c: Machine['config']) => number,
  lastGood = false,
): Promise<Machine> {
  const config = await loadConfig(thisHost, o.config, lastGood);
  const real = seconds ? realHost(Date.now() + seconds(config) * 1000) : thisHost;
  const told: string[] = [];
  const host = o.dryRun ? dryRun(real, line => told.push(line)) : real;
  const backends: Partial<Record<BackendKind, VolumeBackend>> = {};
  if (o.dryRun) process.on('exit', () => say(1, told.map(line => `${line}\n`).join('')));
  return {
    host,
    config,
    paths: pathsOf(config.directories),
    log: makeLog(o.amount, !o.dryRun),
    backend(kind) {
      backends[kind] ??= backendOf(kind, host);
      return backends[kind];
    },
    fds: [],
  };
}

interface Outcome {
  /** The exit code for the display manager: non-zero from `start` is a refused login. */
  readonly code: number;
  /** A session was really made or ended. */
  readonly whole: boolean;
}

const nothingToDo: Outcome = { code: 0, whole: false };

export async function runHook(o: HookOptions, env: NodeJS.ProcessEnv): Promise<Outcome> {
  if (thisHost.exists(MARKER)) return nothingToDo; // inside a session there is nothing to make or end
  if (process.getuid?.() !== 0) throw new MayflyError('not-root', 'a hook must run as root');
  return o.action === 'start' ? start(o, env) : finish(o, env);
}

async function start(o: HookOptions, env: NodeJS.ProcessEnv): Promise<Outcome> {
  const on = await openMachine(o, c => c.hook.timeout);
  const call = callOf(on.host, o.adapter, env, o.caller);
  if (!call) throw new MayflyError('bad-user', `${o.adapter} named no user (USER is not set)`);
  try {
    const s = await login(on, call);
    if (!s) on.log('debug', `${call.user} is out of scope and gets the host`, { user: call.user });
    else
      on.log('info', `${s.id}: ${call.user} is in generation ${s.generation}`, {
        session: s.id,
        user: call.user,
      });
    if (s && !o.dryRun) await tellUser(on, call, undefined);
    return { code: 0, whole: s !== undefined && !o.dryRun };
  } catch (error) {
    if (!o.dryRun) await tellUser(on, call, error).catch(() => undefined); // the reason itself is thrown on
    const refused = on.config.on_failure === 'refuse';
    const screen = refused && !o.dryRun ? screenOf(env) : undefined;
    // What can not be shown must not hide the reason, which is thrown on.
    if (screen) await showRefusal(thisHost, screen, error).catch(e => on.log('debug', reasonOf(e)));
    if (refused || o.dryRun) throw error;
    on.log('err', `${call.user} gets the host, as configured: ${reasonOf(error)}`, { user: call.user });
    return nothingToDo;
  }
}

/** Leaves the reason where the person's own wrapper can read it, or takes an old one away. */
async function tellUser({ paths }: Machine, call: Call, error: unknown): Promise<void> {
  // Not by the host of the login: also when its time is over.
  const mine = userDirectory(paths, (await lookupUser(thisHost, call.user)).uid);
  if (error === undefined) return thisHost.unlink(`${mine}/reason`);
  for (const path of [paths.run, paths.users, mine]) thisHost.mkdir(path, 0o755);
  thisHost.write(`${mine}/reason`, `${reasonOf(error)}\n`, { mode: 0o644 });
}

async function finish(o: HookOptions, env: NodeJS.ProcessEnv): Promise<Outcome> {
  const on = await openMachine(o, c => c.hook.timeout * 2, true);
  const call = callOf(on.host, o.adapter, env, o.caller);
  if (!call) return nothingToDo;
  try {
    const result = await logout(on, call, endNow);
    if (result === 'ended' && !hasEndUnit(on.host)) await prepareNext(on, 'start');
    on.log(result === 'ended' ? 'info' : 'debug', `logout of ${call.user}: ${result}`, { user: call.user });
    return { code: 0, whole: result === 'ended' && !o.dryRun };
  } catch (error) {
    // A name that was only typed, not logged in.
    if (error instanceof MayflyError && (error.code === 'unknown-user' || error.code === 'bad-user')) {
      on.log('debug', reasonOf(error));
      return nothingToDo;
    }
    await onStuck(on, error);
    throw error;
  }
}

/**
 * Under systemd a unit of its own does the teardown: the greeter is back at once, and nothing that is killed with
 * the session (gdm's hooks run inside it) takes the teardown along. Elsewhere it is done here.
 */
async function endNow(s: Session, on: Machine): Promise<void> {
  if (!hasEndUnit(on.host)) {
    await stop(on, s);
    return;
  }
  await on.host.run({
    file: 'systemctl',
    args: ['--no-block', 'start', `mayfly-end@${s.id}.service`],
    effect: 'write',
  });
}

function hasEndUnit(host: Host): boolean {
  const unit = 'systemd/system/mayfly-end@.service';
  const installed = ['/etc', '/usr/lib', '/lib'].some(path => host.exists(`${path}/${unit}`));
  return installed && host.exists('/run/systemd/system');
}
