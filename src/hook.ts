/** `mayfly hook ADAPTER start|stop`: what display managers run. Everything on this path loads nothing but Node's own. */
import { callOf, type HookCall } from './adapters/call.ts';
import { print } from './command.ts';
import { loadConfig } from './config.ts';
import { dryRun } from './dry-run.ts';
import { MayflyError, publicCodeOf, reasonOf } from './errors.ts';
import { type Host, realHost } from './host.ts';
import { MARKER } from './identity.ts';
import { makeLog, toJournal } from './log.ts';
import { screenOf, showRefusal, wordsFor } from './refusal.ts';
import { login, logout, onStuck, prepareSpare, stop } from './session.ts';
import { pathsOf, type Session } from './state.ts';
import type { Machine } from './steps.ts';
import { type BackendKind, openBackend, type VolumeBackend } from './volume/backend.ts';
import { writeLoginOutcome } from './word.ts';

export interface HookOptions {
  readonly adapter: 'gdm' | 'lightdm' | 'pam';
  readonly action: 'start' | 'stop';
  /** An absolute path; undefined where none was named. */
  readonly config: string | undefined;
  /** The display manager's process, where it is not our parent. */
  readonly caller: number | undefined;
  readonly dryRun: boolean;
  readonly amount: 'quiet' | 'normal' | 'verbose';
}

/** Without a deadline for commands; made once. */
const thisHost = realHost();

/**
 * Everything together, on the real machine. `seconds` bounds the commands run through it. What a dry run would do is
 * told on stdout, but where that is for JSON.
 */
export async function openMachine(
  o: Pick<HookOptions, 'config' | 'dryRun' | 'amount'> & { readonly json?: boolean },
  seconds?: (c: Machine['config']) => number,
  lastGood = false,
): Promise<Machine> {
  const config = await loadConfig(thisHost, o.config, lastGood);
  const real = seconds ? realHost(Date.now() + seconds(config) * 1000) : thisHost;
  const told: string[] = [];
  const host = o.dryRun ? dryRun(real, line => told.push(line)) : real;
  const backends: Partial<Record<BackendKind, VolumeBackend>> = {};
  if (o.dryRun) process.on('exit', () => print(o.json ? 2 : 1, told.map(line => `${line}\n`).join('')));
  return {
    host,
    config,
    paths: pathsOf(config.directories),
    log: makeLog(o.amount, !o.dryRun),
    backend(kind) {
      backends[kind] ??= openBackend(kind, host);
      return backends[kind];
    },
    lockFds: [],
  };
}

interface HookOutcome {
  /** The exit code for the display manager: non-zero from `start` is a refused login. */
  readonly code: number;
  /** A session was made or ended, or a dry run told all of it. */
  readonly whole: boolean;
}

const nothingToDo: HookOutcome = { code: 0, whole: false };

export async function runHook(o: HookOptions, env: NodeJS.ProcessEnv): Promise<HookOutcome> {
  if (thisHost.exists(MARKER)) return nothingToDo; // inside a session there is nothing to make or end
  if (process.getuid?.() !== 0) throw new MayflyError('not-root', 'a hook must run as root');
  return o.action === 'start' ? handleStart(o, env) : handleStop(o, env);
}

async function handleStart(o: HookOptions, env: NodeJS.ProcessEnv): Promise<HookOutcome> {
  let on: Machine | undefined;
  let call: HookCall | undefined;
  try {
    on = await openMachine(o, c => c.hook.timeout);
    call = callOf(on.host, o.adapter, env, o.caller);
    if (!call) throw new MayflyError('bad-user', `${o.adapter} named no user (USER is not set)`);
    const s = await login(on, call);
    const fields = { session: s?.id, user: call.user };
    if (!s) on.log('debug', `${call.user} is out of scope and gets the host`, fields);
    else if (!o.dryRun) on.log('info', `${s.id}: ${call.user} is in generation ${s.generation}`, fields);
    if (!o.dryRun) await writeLoginOutcome(thisHost, on.paths, call.user, s ? 'session' : 'host');
    return { code: 0, whole: s !== undefined };
  } catch (error) {
    if (o.dryRun) throw error;
    const user = call?.user ?? env.USER ?? '';
    // With a configuration that is wrong, where the last good one had it.
    const at = on ?? (await openMachine(o, undefined, true).catch(() => undefined));
    // What can not be told must not hide the reason, which is thrown on.
    if (at) await writeLoginOutcome(thisHost, at.paths, user, error).catch(() => undefined);
    const fields = { user, code: publicCodeOf(error) };
    if (call && on?.config.on_failure === 'host') {
      on.log('err', `${user} gets the host, as configured: ${reasonOf(error)}`, fields);
      return nothingToDo;
    }
    toJournal('err', `the login of ${user} is refused: ${reasonOf(error)} (${fields.code})`, fields);
    // What PAM's hook prints is shown to the person, by whoever opened the session.
    if (o.adapter === 'pam') print(1, `${wordsFor(error).replaceAll(/\s+/g, ' ')}\n`);
    const screen = screenOf(env);
    if (screen) await showRefusal(thisHost, screen, error).catch(() => undefined);
    throw error;
  }
}

async function handleStop(o: HookOptions, env: NodeJS.ProcessEnv): Promise<HookOutcome> {
  const on = await openMachine(o, c => c.hook.timeout * 2, true);
  const call = callOf(on.host, o.adapter, env, o.caller);
  if (!call) return nothingToDo;
  try {
    const result = await logout(on, call, endNow);
    if (result === 'ended' && !hasEndUnit(on.host)) await prepareSpare(on, 'start');
    on.log(result === 'ended' ? 'info' : 'debug', `logout of ${call.user}: ${result}`, { user: call.user });
    return { code: 0, whole: result === 'ended' };
  } catch (error) {
    // A name that was only typed, not logged in.
    if (error instanceof MayflyError && (error.code === 'unknown-user' || error.code === 'bad-user')) {
      on.log('debug', reasonOf(error));
      return nothingToDo;
    }
    if (o.adapter === 'pam')
      toJournal('err', `logout of ${call.user}: ${reasonOf(error)}`, { user: call.user });
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
