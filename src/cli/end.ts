/** `end` one session; `recover` everything that is over. */
import { EXIT } from '../advice.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import { recover } from '../service/recover.ts';
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
    'if-there': { type: 'boolean', default: false, hidden: true },
  },
  async run(args, { flags, machine, report }) {
    const on = await machine();
    if (args.ifThere === true) {
      await endIfThere(on, String(args.session));
      return 0;
    }
    const { id } = sessionNamed(on, String(args.session));
    await end(on, id);
    report({ ended: id }, `${id} ${flags.dryRun ? 'would be' : 'has'} ended`);
    return 0;
  },
};

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
      ...result.stuck.map(what => `stuck: ${what}`),
    ];
    report(result, lines.length === 0 ? 'nothing to recover' : lines.join('\n'));
    return result.stuck.length > 0 ? EXIT.stuck : EXIT.ok;
  },
};
