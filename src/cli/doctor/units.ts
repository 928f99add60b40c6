/** The background jobs: the session monitor, the nightly update, recovery at boot. */

import { installHint } from '../../advice.ts';
import { BRING_BACK } from '../../desktop/reinstall.ts';
import type { Host } from '../../linux/host.ts';
import { processesNamed } from '../../linux/processes.ts';
import { ENABLED_MARKER } from '../../state/paths.ts';

import {
  type CheckResult,
  check,
  type Finding,
  found,
  notApplicable,
  problem,
  type Subject,
  warning,
} from './check.ts';
import { isDefault } from './setup.ts';

const GROUP = 'background jobs';

const SERVICE = 'mayfly.service';

const TIMER = 'mayfly-update.timer';

const MISSED = 'mayfly-update-missed.timer';

/** What both timers start. */
const UPDATE = 'mayfly-update.service';

const RECOVER = 'mayfly-recover.service';

/** An alias: systemd shows it with the display manager's own name as Id. */
const DISPLAY = 'display-manager.service';

const CRON = '/etc/cron.d/mayfly';

const FOREIGN = notApplicable('the units only use /etc/mayfly/mayfly.toml');

const NO_SYSTEMD = notApplicable('there is no systemd');

/** The properties that `systemctl show` prints, by unit name. */
export type Units = Readonly<Record<string, Readonly<Record<string, string>>>>;

export function parseUnits(text: string): Units {
  const blocks = text.split(/\n\s*\n/).map(block =>
    Object.fromEntries(
      block
        .split('\n')
        .filter(line => line.includes('='))
        .map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    ),
  );
  return Object.fromEntries(blocks.map(b => [b.Id ?? '', b]));
}

/** The units; undefined without systemd. `foreign`: doctor examines another configuration file than theirs. */
export interface Surroundings {
  readonly foreign: boolean;
  readonly units: Units | undefined;
}

async function surroundings(on: Subject): Promise<Surroundings> {
  const { host } = on;
  if (!isDefault(on)) return { foreign: true, units: undefined };
  if (!host.exists('/run/systemd/system')) return { foreign: false, units: undefined };
  const starts = 'SubState,Result,ExecMainStatus,ConditionResult,ConditionTimestamp';
  const properties = `--property=Id,Names,ActiveState,UnitFileState,Before,${starts}`;
  const args = ['show', properties, SERVICE, TIMER, MISSED, UPDATE, RECOVER, DISPLAY];
  const { stdout } = await host.run({ file: 'systemctl', args, effect: 'read' });
  return { foreign: false, units: parseUnits(stdout) };
}

export function judgeService({ foreign, units }: Surroundings): CheckResult {
  if (foreign) return FOREIGN;
  if (!units) return NO_SYSTEMD;
  const { UnitFileState, ActiveState = 'missing' } = units[SERVICE] ?? {};
  if (UnitFileState === 'masked') return notApplicable('it is masked');
  const what = `it is ${ActiveState}: sessions whose logout was not reported stay until the next boot`;
  return found(
    ActiveState === 'active' ? [] : [warning(what, `systemctl enable --now ${SERVICE}`)],
    'running',
  );
}

/** The jobs that run nightly updates. */
export interface Schedule extends Surroundings {
  /** The text of the package's cron job; undefined if the file is missing. */
  readonly cron: string | undefined;
  /** cron(8) ignores that file, because others than root could have written it. */
  readonly ignored: boolean;
  /** cron(8) is running. */
  readonly crond: boolean;
  /** Other crontabs that run updates. */
  readonly others: readonly string[];
}

const NOBODY = 'there are no automatic updates';

/** Why an update that begins by hand would never begin by itself, although its timer is on. Pure. */
function whyNotStarted(units: Units): Finding[] {
  const { UnitFileState, Result, ExecMainStatus, ConditionResult, ConditionTimestamp } = units[UPDATE] ?? {};
  if (UnitFileState === 'masked')
    return [
      warning(
        `${UPDATE} is masked: ${NOBODY}; mask the timers if that is intended`,
        `systemctl unmask ${UPDATE}`,
      ),
    ];
  if (units[TIMER]?.SubState === 'elapsed')
    return [
      warning(
        `the timer has no next time, so that each night is missed`,
        `systemctl revert ${TIMER} && systemctl restart ${TIMER}`,
      ),
    ];
  const again = `systemctl revert ${UPDATE} && systemctl start --no-block ${UPDATE}`; // without the settings of others
  if (ConditionResult === 'no' && ConditionTimestamp)
    return [
      warning(`${UPDATE} was not started last time, because a condition of the unit was not met`, again),
    ];
  // The exit statuses of systemd itself, see systemd.exec(5); what an update fails for is on record.
  if (Result === 'exit-code' && Number(ExecMainStatus) >= 200)
    return [warning(`systemd could not start ${UPDATE}, with exit status ${ExecMainStatus}`, again)];
  return [];
}

export function judgeSchedule({ foreign, units, cron, ignored, crond, others }: Schedule): CheckResult {
  if (foreign) return FOREIGN;
  const twice = others.map(path =>
    warning(
      `"${path}" runs updates in addition to the schedule of the package`,
      `sed -i '/mayfly update/s/^/#/' ${path}`,
    ),
  );
  if (!units) {
    const missing: Finding[] = [
      ...(cron === undefined ? [warning(`"${CRON}" is missing: ${NOBODY}`, BRING_BACK)] : []),
      ...(ignored
        ? [
            warning(
              `cron ignores "${CRON}", which is not root's or which others can write: ${NOBODY}`,
              `chown root:root ${CRON} && chmod 644 ${CRON}`,
            ),
          ]
        : []),
      ...(crond ? [] : [warning(`cron is not running: ${NOBODY}`, installHint('cron'))]),
    ];
    return found([...missing, ...twice], 'every night, by cron');
  }
  // The package's own cron job does nothing where systemd runs.
  const both = cron !== undefined && !cron.includes('[ -d /run/systemd/system ] ||');
  const fix = `rm ${CRON} && ${BRING_BACK}`;
  if (both) twice.push(warning(`"${CRON}" runs updates in addition to the timer`, fix));
  const { UnitFileState, ActiveState } = units[TIMER] ?? {};
  if (UnitFileState === 'masked')
    return { ...found(twice, ''), applies: twice.length > 0, words: 'the timer is masked' };
  const on = UnitFileState === 'enabled' && ActiveState === 'active';
  const missed = units[MISSED] ?? {};
  if (on && missed.ActiveState !== 'active' && missed.UnitFileState !== 'masked')
    twice.push(
      warning(
        `${MISSED} is ${missed.ActiveState ?? 'missing'}: a machine that is off at night is never updated`,
        `systemctl enable --now ${MISSED}`,
      ),
    );
  const what = `the timer is ${UnitFileState || 'missing'} and ${ActiveState ?? 'inactive'}: ${NOBODY}; mask it if that is intended`;
  return found(
    [...(on ? whyNotStarted(units) : [warning(what, `systemctl enable --now ${TIMER}`)]), ...twice],
    'every night, by the timer',
  );
}

async function gatherSchedule(on: Subject): Promise<Schedule> {
  const { host } = on;
  const others = ['/etc/crontab', ...host.list('/etc/cron.d').map(name => `/etc/cron.d/${name}`)];
  const file = host.stat(CRON);
  return {
    ...(await surroundings(on)),
    cron: host.read(CRON),
    ignored: file !== undefined && (file.uid !== 0 || (file.mode & 0o022) !== 0),
    crond: processesNamed(host, 'cron').length > 0,
    others: others.filter(path => path !== CRON && runsUpdates(host, path)),
  };
}

function runsUpdates(host: Host, path: string): boolean {
  return host.stat(path)?.kind === 'file' && /^[^#\n]*\bmayfly update\b/m.test(host.read(path) ?? '');
}

/** Recovery at boot, before anyone can log in. `wanted`: a display manager is enabled. */
export function judgeRecovery({ foreign, units, wanted }: Surroundings & { wanted: boolean }): CheckResult {
  if (foreign) return FOREIGN;
  if (!units) return NO_SYSTEMD;
  const { UnitFileState, ActiveState, Before = '' } = units[RECOVER] ?? {};
  const level = wanted ? problem : warning;
  if (UnitFileState !== 'enabled') {
    const what = `it is ${UnitFileState || 'missing'}: leftovers of a power failure are not removed at boot, and a pool image is not mounted`;
    return found([level(what, `systemctl enable ${RECOVER}`)], '');
  }
  const aliases = Object.values(units).find(u => u.Names?.split(' ').includes(DISPLAY))?.Names ?? '';
  const isBefore = (names: readonly string[]): boolean => Before.split(' ').some(b => names.includes(b));
  const late = [[DISPLAY, ...aliases.split(' ')], ['systemd-user-sessions.service']].filter(
    n => !isBefore(n),
  );
  const failed =
    ActiveState === 'failed' ? [problem('it failed at boot', `systemctl restart ${RECOVER}`)] : [];
  const early = late.map(([unit]) =>
    level(`it is not ordered before ${unit}`, `systemctl revert ${RECOVER}`),
  );
  return found([...failed, ...early], 'at boot, before the display manager');
}

export const unitChecks = [
  check({ group: GROUP, title: 'service', gather: surroundings, evaluate: judgeService }),
  check({ group: GROUP, title: 'nightly update', gather: gatherSchedule, evaluate: judgeSchedule }),
  check({
    group: GROUP,
    title: 'recovery',
    gather: async on => ({ ...(await surroundings(on)), wanted: on.host.exists(ENABLED_MARKER) }),
    evaluate: judgeRecovery,
  }),
];
