/** `end` one session; `recover` everything that is over. */
import { EXIT } from '../advice.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { recover } from '../service/recover.ts';
import { announceEnd } from '../session/announced-end.ts';
import { end } from '../session/end.ts';
import type { Machine } from '../state/machine.ts';
import { readPool } from '../state/pool.ts';
import type { CliCommand } from './command.ts';
import { sessionNamed } from './run.ts';

export const endCommand: CliCommand = {
  command: 'end <session>',
  lastGood: () => true,
  describe: 'end a session now: kill its processes and remove its root',
  positionals: {
    session: { type: 'string', describe: 'session ID, user name, or unambiguous ID prefix with its hyphen' },
  },
  options: {
    in: { type: 'string', describe: 'tell the user, and end the session after this time, such as 5min' },
    notice: { type: 'string', describe: 'what to tell the user, with --in' },
    'if-there': { type: 'boolean', default: false, hidden: true },
  },
  async run(args, { flags, machine, report }) {
    const on = await machine();
    if (args.ifThere === true) {
      await endIfThere(on, String(args.session));
      return 0;
    }
    const wait = waitOf(args.in, args.notice);
    const notice = args.notice === undefined ? undefined : String(args.notice);
    const s = sessionNamed(on, String(args.session));
    const { id } = s;
    if (wait !== undefined && !flags.dryRun && !(await announceEnd(on, s, wait, notice))) {
      report({ ended: id }, `${id} has ended by itself`);
      return 0;
    }
    await end(on, id);
    report({ ended: id }, `${id} ${flags.dryRun ? 'would be' : 'has'} ended`);
    return 0;
  },
};

/** Milliseconds of the longest announcement. */
const DAY = 24 * 3_600_000;

const UNITS: Readonly<Record<string, number>> = { s: 1000, min: 60_000, h: 3_600_000 };

/** The most characters of a notice, which must fit on a screen. */
const LONGEST = 500;

/**
 * Milliseconds to wait before the end; undefined if it is to be at once. Throws `usage` if the options make no sense. Pure.
 */
export function waitOf(time: unknown, notice: unknown): number | undefined {
  if (notice !== undefined && (notice === '' || String(notice).length > LONGEST))
    throw new MayflyError('usage', `--notice takes a text of at most ${LONGEST} characters`);
  if (time === undefined) {
    if (notice === undefined) return undefined;
    throw new MayflyError('usage', '--notice needs --in, so that there is time to read it', {
      hint: 'mayfly end SESSION --notice TEXT --in 5min',
    });
  }
  const [, count = '', unit = ''] = /^(\d{1,5})(s|min|h)$/.exec(String(time)) ?? [];
  const ms = Number(count) * (UNITS[unit] ?? Number.NaN);
  if (ms > 0 && ms <= DAY) return ms;
  throw new MayflyError('usage', `--in takes a time of at most 24h, such as 30s, 5min or 1h, not "${time}"`);
}

/** How often to wait for the lock; each wait takes up to 30 s. */
const MAX_ATTEMPTS = 10;

/**
 * Ends a session for mayfly-end@.service. mayfly.service ends the same session if the unit is slow to start, so a
 * session that is gone is no error, and a locked one is tried again, up to {@link MAX_ATTEMPTS} times. Then throws
 * `locked`.
 */
export async function endIfThere(on: Machine, id: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await end(on, id);
      return await waitForEraser(on, id);
    } catch (error) {
      const code = error instanceof MayflyError ? error.code : undefined;
      if (code === 'unknown-session') return;
      if (code !== 'locked' || attempt === MAX_ATTEMPTS) throw error;
      on.log('debug', reasonOf(error), { session: id });
    }
  }
}

/**
 * Waits until the volume of an ended session is erased. Nobody waits for the unit, and systemd reports a process that a
 * unit leaves behind. A failure is logged, and mayfly.service tries again.
 */
async function waitForEraser(on: Machine, id: string): Promise<void> {
  const pool = readPool(on.host, on.paths);
  if (!pool) return;
  const backend = on.backend(pool.backend);
  if (!backend.discard) return;
  try {
    for (const d of (await backend.list(pool.path)).discarded)
      if (d.session === id && !d.deleted) await backend.sweep(pool.path, d.name);
  } catch (error) {
    on.log('warning', `the volume of ${id} is not erased yet: ${reasonOf(error)}`, { session: id });
  }
}

export const recoverCommand: CliCommand = {
  command: 'recover',
  lastGood: () => true,
  describe: 'restore a consistent state; runs at boot, and is safe at any time',
  options: {
    erase: { type: 'boolean', default: true, hidden: true }, // --no-erase at boot: mayfly.service erases
  },
  async run(args, { flags, machine, report }) {
    const result = await recover(await machine(), args.erase === true);
    const [ended, removed, restored] = flags.dryRun
      ? ['would end', 'would remove', 'would restore']
      : ['ended', 'removed', 'restored'];
    const lines = [
      ...result.ended.map(id => `${ended} ${id}`),
      ...result.swept.map(what => `${removed} ${what}`),
      ...result.adopted.map(what => `${restored} ${what}`),
      ...result.kept,
      ...result.stuck.map(what => `stuck: ${what}`),
    ];
    report(result, lines.length === 0 ? 'nothing to recover' : lines.join('\n'));
    return result.stuck.length > 0 ? EXIT.stuck : EXIT.ok;
  },
};
