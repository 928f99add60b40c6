/** The administrator's own scripts: their owners, and those that updates silently ignore. */

import { MayflyError } from '../../errors.ts';
import { isScriptName, scriptsIn } from '../../linux/run-parts.ts';
import { shellWord } from '../../names.ts';
import { check, type Finding, found, notApplicable, problem, type Subject, warning } from './check.ts';

/** A file among the scripts. */
export interface Script {
  readonly directory: string;
  readonly name: string;
  readonly executable: boolean;
}

/** Hidden files and those left by an editor or a package: nobody expects them to be run. */
const NO_SCRIPT = /^\.|^#|~$|\.(dpkg|ucf)-|\.(bak|orig|swp|disabled|off)$|^README/;

/** A warning if updates ignore the file, with the command that makes them run it. Pure. */
export function judgeScript({ directory, name, executable }: Script): Finding[] {
  if (NO_SCRIPT.test(name)) return [];
  const good = name.replace(/(?<=.)\.[^.]*$/, '').replaceAll(/[^a-zA-Z0-9_-]+/g, '-');
  const from = shellWord(`${directory}/${name}`);
  const to = `${directory}/${good}`;
  const why = [
    ...(isScriptName(name) ? [] : ['its name has characters other than letters, digits, "_" and "-"']),
    ...(executable ? [] : ['it is not executable']),
  ];
  const fix = [
    ...(isScriptName(name) ? [] : [`mv -n -- ${from} ${to}`]),
    ...(executable ? [] : [`chmod +x ${isScriptName(name) ? from : to}`]),
  ];
  if (why.length === 0) return [];
  return [warning(`"${directory}/${name}" is ignored: ${why.join(', and ')}`, fix.join(' && '))];
}

interface Scripts {
  readonly count: number;
  /** The errors with which an update would refuse them. */
  readonly unsafe: readonly MayflyError[];
  readonly files: readonly Script[];
}

function gatherScripts({ host, config }: Subject): Scripts {
  const unsafe: MayflyError[] = [];
  const files: Script[] = [];
  let count = 0;
  for (const part of ['refresh.d', 'checks.d', 'checks.d/optional']) {
    const directory = `${config.directory}/${part}`;
    for (const name of host.list(directory)) {
      const there = host.stat(`${directory}/${name}`);
      if (there?.kind === 'file') files.push({ directory, name, executable: (there.mode & 0o111) !== 0 });
    }
    try {
      count += scriptsIn(host, directory).length;
    } catch (error) {
      if (!(error instanceof MayflyError)) throw error;
      unsafe.push(error);
    }
  }
  return { count, unsafe, files };
}

export const scriptChecks = [
  check({
    group: 'configuration',
    title: 'scripts',
    gather: gatherScripts,
    evaluate({ count, unsafe, files }) {
      const findings = [
        ...unsafe.map(e => problem(e.message, `chown root: ${e.facts.path} && chmod go-w ${e.facts.path}`)),
        ...files.flatMap(judgeScript),
      ];
      if (count + findings.length === 0) return notApplicable('there are none in refresh.d or checks.d');
      return found(findings, `${count}, writable only by root`);
    },
  }),
];
