/** The commands that only read the state: status, sessions, generations. */

import { MayflyError } from '../errors.ts';
import { overBecause } from '../session/end-reason.ts';
import { chrootedPaths, FAILS_IN_CHROOT, isChroot } from '../session/root-kind.ts';
import { describeDiscarded } from '../state/discarded.ts';
import {
  corruptRecord,
  generationNumbers,
  readableGeneration,
  stableNumber,
  whyDemoted,
} from '../state/generations.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import { readSessions, type Session } from '../state/sessions.ts';
import {
  generationChanges,
  type History,
  type RunningUpdate,
  readHistory,
  readRunning,
} from '../state/update-history.ts';
import { describePromotions } from '../update/adopt.ts';
import { isUsable } from '../update/health.ts';
import { describeUsage, poolUsage } from '../update/pool-usage.ts';
import { type Discarded, inOneLine, type Pool } from '../volume/backend.ts';
import type { CliCommand } from './command.ts';
import { ago, table } from './format.ts';
import { checkStatus } from './status-check.ts';

function stateOf(on: Machine, s: Session): string {
  if (s.stuck !== undefined) return `stuck: ${s.stuck}`;
  if (s.state === 'ending' && s.saving) return `ending: waits for ${s.saving.who}`;
  const over = overBecause(on.host, s);
  return over === undefined || s.state === 'ending' ? s.state : `over: ${over}`;
}

function sessionRow(on: Machine, s: Session, chrooted: ReadonlySet<string>) {
  const logins = s.logins.map(l => `${l.adapter}${l.display === undefined ? '' : ` ${l.display}`}`);
  const inChroot = isChroot(s, chrooted);
  return {
    id: s.id,
    user: s.user.name,
    generation: s.generation,
    since: new Date(s.created).toISOString(),
    logins,
    state: stateOf(on, s),
    kind: s.kind,
    root: inChroot ? 'chroot' : 'namespace',
    fails: inChroot ? FAILS_IN_CHROOT : [],
  };
}

function sessionRows(on: Machine) {
  const sessions = readSessions(on.host, on.paths);
  const chrooted = sessions.length > 0 ? chrootedPaths(on.host) : new Set<string>();
  return sessions.map(s => sessionRow(on, s, chrooted));
}

/** For sessions in which sandboxes fail. */
function chroots(rows: readonly { readonly root: string }[]): string {
  const count = rows.filter(r => r.root === 'chroot').length;
  return count === 0 ? '' : `, ${count} of them in a chroot, where sandboxes fail (run "mayfly doctor")`;
}

function sessionsText(on: Machine): string {
  const rows = sessionRows(on);
  if (rows.length === 0) return 'no sessions';
  const cells = rows.map(r => [
    r.id,
    r.user,
    String(r.generation),
    ago(Date.parse(r.since), on.host.now()),
    r.logins.join(', '),
    r.root,
    r.state,
  ]);
  return table([['SESSION', 'USER', 'GENERATION', 'SINCE', 'LOGINS', 'ROOT', 'STATE'], ...cells]);
}

export const sessionsCommand: CliCommand = {
  command: 'sessions',
  lastGood: () => true,
  describe: 'list the sessions, with the reason for stuck ones',
  async run(_args, { machine, show }) {
    const on = await machine();
    show(sessionRows(on), sessionsText(on));
    return 0;
  },
};

async function generationRows(on: Machine) {
  const stable = stableNumber(on.host, on.paths);
  const sessions = readSessions(on.host, on.paths);
  const rows = [];
  for (const number of generationNumbers(on.host, on.paths)) {
    const g = readableGeneration(on.host, on.paths, number);
    const whole = corruptRecord(on.host, on.paths, number) === undefined;
    if (!g && whole) continue;
    const usable = await isUsable(on, g);
    const pins = sessions.filter(s => s.generation === number).length;
    const demoted = whyDemoted(on.host, on.paths, number) ?? null;
    const { created = null, origin = null } = g ?? {};
    rows.push({ number, stable: number === stable, created, origin, sessions: pins, usable, demoted, whole });
  }
  return rows;
}

export const generationsCommand: CliCommand = {
  command: 'generations',
  lastGood: () => true,
  describe: 'list the generations and mark the stable one',
  async run(_args, { machine, show }) {
    const on = await machine();
    const rows = await generationRows(on);
    const cells = rows.map(g => [
      `${g.number}${g.stable ? ' (stable)' : ''}`,
      g.created?.slice(0, 16).replace('T', ' ') ?? '-',
      String(g.sessions),
      `${g.usable ? g.origin : `NOT USABLE: its ${g.whole ? 'volume is missing or was replaced' : 'record is corrupt'}`}${g.demoted === null ? '' : `; demoted: ${g.demoted}`}`,
    ]);
    show(
      rows,
      rows.length === 0
        ? 'no generations; create the first one with "mayfly init"'
        : table([['GENERATION', 'SEALED', 'SESSIONS', 'FROM'], ...cells]),
    );
    return 0;
  },
};

function describeRunning(r: RunningUpdate, now: number): string {
  return `${r.what} has been running for ${ago(r.since, now)}, in phase "${r.phase}" (process ${r.holder.pid})`;
}

function describeHistory(h: History | undefined, now: number): string {
  if (!h) return 'none yet';
  const last = `last attempt ${ago(h.lastAttempt, now)} ago: ${h.result}`;
  const where = h.phase && h.reason ? ` in "${h.phase}": ${h.reason}` : h.reason ? `: ${h.reason}` : '';
  const good = h.lastSuccess === undefined ? '' : `; last success ${ago(h.lastSuccess, now)} ago`;
  return last + where + good;
}

/** What waits to be erased in the pool; nothing if it cannot be listed, which its usage explains. */
async function discardedIn(on: Machine, pool: Pool | undefined): Promise<readonly Discarded[]> {
  if (!pool) return [];
  return on
    .backend(pool.backend)
    .list(pool.path)
    .then(
      listing => listing.discarded,
      () => [],
    );
}

export const statusCommand: CliCommand = {
  command: 'status',
  lastGood: () => true,
  describe: 'show the pool, the stable generation and the sessions',
  anyone: true, // the exit status of --check must never be that of another error
  options: {
    check: {
      type: 'boolean',
      default: false,
      describe: 'print one line for monitoring; exits as Nagios expects',
    },
  },
  async run(args, { flags, machine, show }) {
    if (args.check === true) {
      const { level, line, status } = await checkStatus(flags);
      show({ level, line, status }, line);
      return status;
    }
    if (process.getuid?.() !== 0) throw new MayflyError('not-root', '"status" must run as root');
    const on = await machine();
    const pool = readPool(on.host, on.paths);
    const stable = stableNumber(on.host, on.paths);
    const usage = pool && (await poolUsage(on, pool));
    const generations = await generationRows(on);
    const discarded = await discardedIn(on, pool);
    const sessions = sessionRows(on);
    const stuck = sessions.filter(s => s.state.startsWith('stuck') || s.state.startsWith('over'));
    const running = readRunning(on.host, on.paths);
    const history = readHistory(on.host, on.paths);
    const healthy =
      on.config.invalid === undefined &&
      stable !== undefined &&
      stuck.length === 0 &&
      generations.some(g => g.stable && g.usable);
    // Of a generation that was rolled back it is no news any more.
    const changes = history?.changes?.generation === stable ? history?.changes : undefined;
    const news = changes && generationChanges(changes);
    const promotion = describePromotions(on.host, on.paths);
    const value = {
      healthy,
      config: { invalid: on.config.invalid ?? null },
      pool: pool ?? null,
      usage: usage ?? null,
      stable: stable ?? null,
      update: { running: running ?? null, history: history ?? null },
      generations,
      sessions,
      discarded,
      promotion: promotion ?? null,
    };
    const erasing = describeDiscarded(discarded);
    const { invalid } = on.config;
    const lines = [
      ...(invalid === undefined ? [] : [`config      invalid; the last valid one is used: ${invalid}`]),
      pool
        ? `pool        ${pool.backend} at ${pool.path}${usage ? `, ${usage.problem ? inOneLine(usage.problem) : describeUsage(usage)}` : ''}`
        : 'pool        none; create one with "mayfly init"',
      `stable      ${stable === undefined ? 'none' : `generation ${stable}`}`,
      `update      ${running ? describeRunning(running, on.host.now()) : describeHistory(history, on.host.now())}`,
      ...(news === undefined ? [] : [`changes     ${news}`]),
      `sessions    ${sessions.length}${chroots(sessions)}${stuck.length > 0 ? `, ${stuck.length} of them stuck or over (run "mayfly recover")` : ''}`,
      ...(erasing === undefined ? [] : [`erasing     ${erasing}`]),
      ...(promotion === undefined ? [] : [`promotion   ${promotion}`]),
    ];
    show(value, `${lines.join('\n')}\n${sessions.length > 0 ? `\n${sessionsText(on)}\n` : ''}`);
    return 0;
  },
};
