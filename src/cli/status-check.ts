/** `status --check`: one line and an exit status in the format of a Nagios plugin, from what is true now. */
import { MayflyError, reasonOf } from '../errors.ts';
import { printableLine } from '../linux/printable.ts';
import { gatherHealth, type HealthIssue, type HealthLevel, healthLine } from '../update/health.ts';
import type { Flags } from './command.ts';
import { type Examination, runChecks } from './doctor/check.ts';
import { currentManagerCheck } from './doctor/current-manager.ts';
import { managerChecks } from './doctor/display-managers.ts';
import { subjectOf } from './doctor/subject.ts';
import { unitChecks } from './doctor/units.ts';

/** The exit statuses of Nagios plugins. */
const STATUS: Readonly<Record<HealthLevel | 'UNKNOWN', number>> = {
  OK: 0,
  WARNING: 1,
  CRITICAL: 2,
  UNKNOWN: 3,
};

interface Checked {
  readonly level: HealthLevel | 'UNKNOWN';
  readonly line: string;
  readonly status: number;
}

const checked = (level: Checked['level'], line: string): Checked => ({
  ...{ level, status: STATUS[level] },
  line: printableLine(line),
});

/** What the checks of doctor found, as issues for monitoring. Pure. */
export function issuesIn(examined: readonly Examination[]): HealthIssue[] {
  return examined.flatMap(e =>
    e.findings.map(f => ({
      topic: 'setup' as const,
      level: f.level === 'problem' ? ('CRITICAL' as const) : ('WARNING' as const),
      words: `${e.title}: ${f.what}`,
    })),
  );
}

/**
 * The health of this machine, with what the service cannot know: whether it runs itself, and whether display managers use
 * our hooks. Never throws: monitoring would take the exit status of an error for another state.
 */
export async function checkStatus(flags: Flags): Promise<Checked> {
  if (process.getuid?.() !== 0)
    return checked('UNKNOWN', 'UNKNOWN - "mayfly status --check" must run as root');
  try {
    const { subject } = await subjectOf(flags);
    if (subject.invalid && subject.isGuess) {
      const why = `the configuration is invalid, and logins are refused: ${reasonOf(subject.invalid)}`;
      return checked('CRITICAL', `CRITICAL - ${why}`);
    }
    const more = issuesIn(await runChecks(subject, [...managerChecks, currentManagerCheck, ...unitChecks]));
    const { level, line } = healthLine(await gatherHealth(subject), subject.host.now(), more);
    return checked(level, line);
  } catch (error) {
    const code = error instanceof MayflyError ? error.code : 'internal';
    return checked('UNKNOWN', `UNKNOWN - ${reasonOf(error)} (${code})`);
  }
}
