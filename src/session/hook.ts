/** `mayfly hook ADAPTER start|stop`, run by display managers. This path loads only modules that Node has built in. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { hasCode, isErrno, MayflyError, publicCodeOf, reasonOf } from '../errors.ts';
import type { Runner } from '../linux/command.ts';
import type { Host } from '../linux/host.ts';
import { toJournal } from '../linux/log.ts';
import type { ProcessId } from '../linux/process-id.ts';
import { mayHang, unsureMounts } from '../linux/remote.ts';
import { type Machine, type MachineOptions, openMachine, thisHost } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import { callOf, type HookCall } from './hook-call.ts';
import { MARKER } from './identity.ts';
import { writeLoginOutcome } from './outcome.ts';
import { leaveWhatMayHang, needsOwnProcess } from './own-process.ts';
import { login, logout, stop } from './session.ts';
import { prepareSpare } from './spare-snapshot.ts';

export interface HookOptions extends Omit<MachineOptions, 'json'> {
  readonly adapter: 'gdm' | 'lightdm' | 'pam';
  readonly action: 'start' | 'stop';
  /** The display manager's process if it is not our parent. */
  readonly caller: number | undefined;
  /** Of `start`: what of the administrator's has failed after it. The login is then refused, and its session ends. */
  readonly failed?: string | undefined;
  /** The agent has not answered this call in time, and may still be at work on it: the hook only says so. */
  readonly unanswered?: boolean | undefined;
  /** In the agent: the process that waits for the answer. */
  readonly client?: ProcessId | undefined;
  /** In the agent: has that process wait for so many seconds from now. */
  readonly extend?: ((seconds: number) => void) | undefined;
  /** How commands are run, if not as in a process of its own. */
  readonly runner?: Runner | undefined;
}

interface HookOutcome {
  /** The exit code for the display manager: non-zero from `start` is a refused login. */
  readonly code: number;
  /** A session was created or ended, or a dry run described all of it. */
  readonly complete: boolean;
}

/** Seconds after the time limit at which the watchdog ends a hook: one that does not hang has said why by then. */
const WATCHDOG_DELAY = 5;

/** Seconds for which the reason of a refused login may be shown: see `refusal-dialog.ts`. */
const DIALOG_TIME = 25;

const nothingToDo: HookOutcome = { code: 0, complete: false };

/**
 * Runs a hook with its environment. Throws `not-root` without root privileges. A `start` that throws is a refused
 * login: the reason is then in the journal, in the user's directory below /run/mayfly, and on the screen if there
 * is one. A `stop` that throws has left a record, which the service retries.
 */
export async function runHook(o: HookOptions, env: NodeJS.ProcessEnv): Promise<HookOutcome> {
  if (thisHost.exists(MARKER)) return nothingToDo; // inside a session there is nothing to create or end
  if (process.getuid?.() !== 0) throw new MayflyError('not-root', 'a hook must run as root');
  process.umask(0o022); // a display manager may have another, which would shut people out of what commands create
  return o.action === 'start' ? handleStart(o, env) : handleStop(o, env);
}

/**
 * Ends this hook at its time limit, whatever it waits for, on machines where it can hang: a display manager waits for it,
 * lightdm with all seats.
 */
async function armWatchdog(o: HookOptions, on: Machine, seconds: number): Promise<void> {
  if (o.dryRun || o.client || !mayHang(on.host)) return; // whoever asks the agent waits no longer than that
  const { watchdogCommand } = await import('../linux/time-limits.ts');
  const what = `"mayfly hook ${o.adapter} ${o.action}"`;
  await thisHost.run(watchdogCommand(on.host.pid, seconds + WATCHDOG_DELAY, what));
}

/** Opens the machine for a call. In the agent, one whose own directories are on a file server is left to others. */
async function openFor(o: HookOptions, seconds: (c: Config) => number): Promise<Machine> {
  const on = await openMachine(o, { seconds, lastGood: true, ...(o.runner ? { runner: o.runner } : {}) });
  if (o.client === undefined) return on;
  const ours = { ...on, client: o.client, unsure: unsureMounts(on.host) };
  const { state, run, schroot } = on.paths;
  leaveWhatMayHang(ours, ['/etc', '/usr/share', state, run, schroot, ...on.config.identity.copy]);
  return ours;
}

/** The seconds within which a hook ends or shows why not, for whoever waits for the agent. */
export async function hookLimit(o: HookOptions): Promise<number> {
  const { hook } = await loadConfig(thisHost, o.config, true);
  return Math.ceil(hook.timeout * (o.action === 'start' ? 1 : 2) + WATCHDOG_DELAY);
}

async function refuseIfUnanswered(o: HookOptions): Promise<void> {
  if (!o.unanswered) return;
  throw new MayflyError('timeout', `the agent did not answer within ${await hookLimit(o)} s`);
}

async function handleStart(o: HookOptions, env: NodeJS.ProcessEnv): Promise<HookOutcome> {
  let on: Machine | undefined;
  let call: HookCall | undefined;
  try {
    on = await openFor(o, c => c.hook.timeout);
    warnIfInvalid(on);
    call = callOf(on.host, o.adapter, env, o.caller);
    await armWatchdog(o, on, on.config.hook.timeout);
    if (!call && env.USER)
      throw new MayflyError('refused', `the process of ${o.adapter} that called the hook has ended`);
    if (!call) throw new MayflyError('bad-user', `${o.adapter} named no user (USER is not set)`);
    await refuseIfUnanswered(o);
    if (o.failed !== undefined) {
      if (!hasEndUnit(on.host)) leaveWhatMayHang(on);
      await logout(on, call, (s, m) => endNow(o, s, m));
      throw new MayflyError('refused', `on this machine, ${o.failed}`);
    }
    const s = await login(on, call, (ending, m) => endNow(o, ending, m, true));
    if (!s) on.log('debug', `${call.user} is out of scope and gets a host session`, { user: call.user });
    if (!o.dryRun) await writeLoginOutcome(thisHost, on.paths, s?.user ?? call.user, s ? 'session' : 'host');
    return { code: 0, complete: s !== undefined };
  } catch (cause) {
    if (o.dryRun || needsOwnProcess(cause)) throw cause;
    let error = cause;
    if (on && isErrno(cause, 'ENOSPC', 'EDQUOT'))
      error = (await import('./space-being-freed.ts')).noRoom(on, cause);
    const user = call?.user ?? env.USER ?? '';
    const { recordRefusal, tellRefusal } = await import('./refused-login.ts');
    if (on && call) await recordRefusal(thisHost, on, user, error); // else there is nobody to be told
    if (call && on?.config.on_failure === 'host' && o.failed === undefined) {
      const fields = { user, code: publicCodeOf(error) };
      on.log('err', `${user} gets a host session (on_failure = "host"): ${reasonOf(error)}`, fields);
      return nothingToDo;
    }
    if (o.adapter === 'lightdm') o.extend?.(DIALOG_TIME);
    await tellRefusal(thisHost, o.adapter, env, user, error);
    throw error;
  }
}

/** A login goes on with the last valid configuration, so that a typing mistake does not lock everybody out. */
function warnIfInvalid({ config, log }: Machine): void {
  if (config.invalid) log('err', `a login uses the last valid configuration: ${config.invalid}`);
}

async function handleStop(o: HookOptions, env: NodeJS.ProcessEnv): Promise<HookOutcome> {
  const on = await openFor(o, c => c.hook.timeout * 2);
  if (!hasEndUnit(on.host)) leaveWhatMayHang(on); // before the record says that it ends
  await armWatchdog(o, on, on.config.hook.timeout * 2);
  const call = callOf(on.host, o.adapter, env, o.caller);
  if (!call) return nothingToDo;
  try {
    await refuseIfUnanswered(o);
    const result = await logout(on, call, (s, m) => endNow(o, s, m));
    if (result === 'ended' && !hasEndUnit(on.host)) await prepareSpare(on, 'start');
    on.log(result === 'ended' ? 'info' : 'debug', `logout of ${call.user}: ${result}`, { user: call.user });
    return { code: 0, complete: result === 'ended' };
  } catch (error) {
    if (needsOwnProcess(error)) throw error;
    // A name that was typed in the greeter and never logged in.
    if (error instanceof MayflyError && (error.code === 'unknown-user' || error.code === 'bad-user')) {
      on.log('debug', reasonOf(error));
      return nothingToDo;
    }
    if (o.adapter === 'pam' || o.unanswered)
      toJournal('err', `logout of ${call.user}: ${reasonOf(error)}`, { user: call.user });
    throw error;
  }
}

/**
 * Ends a session. Under systemd, mayfly-end@ID.service does the teardown: the greeter returns at once, and killing
 * the session does not kill the teardown (gdm's hooks run inside the session). Without systemd it is done here, and only
 * if programs work on ending, or `elsewhere`, by a process of its own.
 */
async function endNow(o: HookOptions, s: Session, on: Machine, elsewhere = false): Promise<void> {
  if (!hasEndUnit(on.host)) {
    try {
      if (!elsewhere) return await stop(on, s);
    } catch (error) {
      if (!hasCode(error, 'saving')) throw error;
    }
    const config = o.config === undefined ? [] : ['--config', o.config];
    const command = [
      process.execPath,
      process.argv[1] ?? '',
      ...config,
      'end',
      '--quiet',
      '--if-there',
      s.id,
    ];
    await on.host.run({ file: 'setsid', args: ['-f', ...command], effect: 'write', background: true });
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
