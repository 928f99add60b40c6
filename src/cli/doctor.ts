/** `doctor`: checks the machine, or explains an error code. */

import { MayflyError } from '../errors.ts';
import type { CliCommand, Context } from './command.ts';
import { homeCheck, lingerCheck, shellCheck, sudoCheck } from './doctor/accounts.ts';
import { type Examination, exitCode, runChecks } from './doctor/check.ts';
import { currentManagerCheck } from './doctor/current-manager.ts';
import { desktopChecks } from './doctor/desktops.ts';
import { managerChecks } from './doctor/display-managers.ts';
import { entryChecks } from './doctor/entry.ts';
import { generationChecks } from './doctor/generations.ts';
import { groupCheck } from './doctor/groups.ts';
import { hostOnlyCheck } from './doctor/host-only.ts';
import { hostNameCheck } from './doctor/hostname.ts';
import { kernelMatchCheck } from './doctor/kernel-pairs.ts';
import { neighboursCheck } from './doctor/neighbours.ts';
import { numberCheck } from './doctor/numbers.ts';
import { poolChecks } from './doctor/pool.ts';
import { placeChecks } from './doctor/pool-place.ts';
import { remoteChecks } from './doctor/remote.ts';
import { sandboxChecks } from './doctor/sandboxes.ts';
import { sealCheck } from './doctor/seals.ts';
import { sessionChecks } from './doctor/sessions.ts';
import { setupChecks } from './doctor/setup.ts';
import { subjectOf } from './doctor/subject.ts';
import { trialLogin } from './doctor/trial.ts';
import { unitChecks } from './doctor/units.ts';
import { unrecordedCheck } from './doctor/unrecorded.ts';
import { allCodes, explainCode } from './error-codes.ts';
import { table } from './format.ts';

const CHECKS = [
  ...setupChecks,
  groupCheck,
  homeCheck,
  shellCheck,
  sudoCheck,
  lingerCheck,
  ...managerChecks,
  currentManagerCheck,
  ...desktopChecks,
  ...sandboxChecks,
  ...remoteChecks,
  ...sessionChecks,
  ...entryChecks,
  hostNameCheck,
  ...poolChecks,
  ...placeChecks,
  unrecordedCheck,
  ...generationChecks,
  hostOnlyCheck,
  kernelMatchCheck,
  neighboursCheck,
  numberCheck,
  sealCheck,
  ...unitChecks,
];

/** A line for each check, or for each of its findings, with the hint below. */
function render(all: readonly Examination[], quiet: boolean): string {
  const width = Math.max(...all.map(e => e.title.length));
  const line = (level: string, title: string, text: string): string =>
    `  ${level.padEnd(14)}  ${title.padEnd(width)}  ${text}`.trimEnd();
  const shown = quiet ? all.filter(e => e.findings.length > 0) : all;
  const groups = [...new Set(shown.map(e => e.group))];
  const blocks = groups.map(group => {
    const rows = shown.filter(e => e.group === group);
    return [group, ...rows.flatMap(e => linesOf(e, line))].join('\n');
  });
  const count = (level: string): number => all.flatMap(e => e.findings).filter(f => f.level === level).length;
  const [problems, warnings] = [count('problem'), count('warning')];
  const plural = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;
  const sum =
    problems + warnings === 0
      ? 'no problems found'
      : `${plural(problems, 'problem')}, ${plural(warnings, 'warning')}`;
  return quiet && problems + warnings === 0 ? '' : [...blocks, sum].join('\n\n');
}

function linesOf(e: Examination, line: (level: string, title: string, text: string) => string): string[] {
  if (e.findings.length === 0) return [line(e.applies ? 'ok' : 'not applicable', e.title, e.words)];
  return e.findings.flatMap(f => [line(f.level, e.title, f.what), line('', '', `hint: ${f.fix}`)]);
}

/** The result for programs; the level of a check is that of its worst finding. */
function answerOf(all: readonly Examination[], code: number) {
  const levelOf = (e: Examination): string =>
    e.findings.find(f => f.level === 'problem')?.level ??
    e.findings[0]?.level ??
    (e.applies ? 'ok' : 'not applicable');
  const checks = all.map(e => ({
    ...{ group: e.group, check: e.title, level: levelOf(e) },
    ...(e.findings.length === 0 ? { words: e.words } : {}),
    findings: e.findings.map(({ level, what, fix }) => ({ level, what, hint: fix })),
  }));
  return { well: code === 0, code, checks };
}

function explainTo({ show }: Context, code: string): number {
  const e = explainCode(code);
  const rows = [['meaning', e.means], ['check', e.look], ...e.type.map((t, i) => [i === 0 ? 'run' : '', t])];
  show(e, `${e.code}\n${table(rows)}`);
  return 0;
}

export const doctorCommand: CliCommand = {
  command: 'doctor [code]',
  describe:
    'check this machine and print how to fix what is wrong, or explain an error code; changes nothing',
  anyone: true, // any user may look up a code
  positionals: { code: { type: 'string', describe: 'error code to explain, such as MAYFLY-FULL' } },
  options: {
    trial: { type: 'boolean', default: false, describe: 'also run a trial login, as updates do' },
    user: { type: 'string', describe: 'whose trial login; default: user in [check]' },
    codes: { type: 'boolean', default: false, describe: 'list all error codes' },
  },
  async run(args, context) {
    if (args.codes === true) {
      const all = allCodes();
      context.show(all, table(all.map(e => [e.code, e.means])));
      return 0;
    }
    if (args.code !== undefined) return explainTo(context, String(args.code));
    if (process.getuid?.() !== 0) throw new MayflyError('not-root', '"doctor" must run as root');
    if (args.trial === true && context.flags.dryRun)
      throw new MayflyError('usage', 'a trial login has no dry run; without --trial, doctor changes nothing');
    if (args.user !== undefined && args.trial !== true)
      throw new MayflyError('usage', '"--user" is for a trial login', {
        hint: 'mayfly doctor --trial --user NAME',
      });
    const { subject, machine } = await subjectOf(context.flags);
    const all = await runChecks(subject, CHECKS);
    if (args.trial === true)
      all.push(await trialLogin(machine, args.user === undefined ? undefined : String(args.user)));
    const code = exitCode(all);
    context.show(answerOf(all, code), render(all, context.flags.quiet));
    return code;
  },
};
