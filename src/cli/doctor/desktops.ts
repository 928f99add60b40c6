/** Whether every desktop that a user can choose runs in the session, and nothing bypasses the hooks. */

import { installHint } from '../../advice.ts';
import {
  isStatic,
  LAUNCHER,
  namesHook,
  PAM_STACK,
  pamBypasses,
  stacksWithUserEnvironment,
} from '../../desktop/adapters/pam.ts';
import { BRING_BACK } from '../../desktop/reinstall.ts';
import { ENABLED_MARKER, GREETER_DIRECTORY } from '../../state/paths.ts';
import { desktopsInside } from '../../update/greeter.ts';
import { type CheckResult, check, type Finding, found, notApplicable, problem, warning } from './check.ts';
import { adaptersIn } from './setup.ts';

const GROUP = 'desktops';

const RECOVER = 'mayfly recover';

const XSESSION = '/etc/X11/Xsession';

const PARTS = '/etc/X11/Xsession.d';

const SNIPPET = `${PARTS}/00mayfly`;

/** The script that has X11 desktops begin in the session. */
export interface Snippet {
  readonly wanted: boolean;
  readonly xsession: boolean;
  readonly text: string | undefined;
  /** The files that Xsession runs before it, on the host. */
  readonly before: readonly string[];
}

/** The names in a directory that run-parts(8) lists before `name`, which are compared as bytes. Pure. */
export const partsBefore = (names: readonly string[], name: string): string[] =>
  names.filter(other => /^[\w-]+$/.test(other) && other < name);

export function judgeSnippet(s: Snippet): CheckResult {
  if (!s.wanted) return notApplicable('no display manager is enabled');
  const findings: Finding[] = [];
  if (!s.xsession) findings.push(problem(`"${XSESSION}" is missing`, 'apt install x11-common'));
  if (s.text === undefined)
    findings.push(problem(`"${SNIPPET}" is missing: desktops run on the host`, BRING_BACK));
  else if (!s.text.includes('exec "$mayfly_wrapper" --xsession "$@"')) {
    const fix = `rm ${SNIPPET} && ${BRING_BACK}`;
    findings.push(problem(`"${SNIPPET}" was changed: desktops run on the host`, fix));
  }
  for (const name of s.before) {
    const path = `${PARTS}/${name}`;
    findings.push(
      warning(`"${path}" runs on the host, before the session is entered`, `mv ${path} ${PARTS}/01${name}`),
    );
  }
  return found(findings, SNIPPET);
}

/** The desktops that the greeter offers. */
export interface Offer {
  /** The display managers that are configured to read them. */
  readonly looking: readonly string[];
  /** How many are of the generation; undefined if the list has never been written. */
  readonly offered: number | undefined;
}

/** Writes the list again. A generation may also have no desktop, which only an administrator can change. */
const LIST_OR_INSTALL = `${RECOVER} # if it has none: mayfly enter master --promote -- sh -c "apt-get update && apt-get install task-xfce-desktop"`;

export function judgeOffer({ looking, offered }: Offer): CheckResult {
  if (looking.length === 0) return notApplicable('no display manager lists the desktops of the generation');
  if (offered === undefined)
    return found([problem(`"${GREETER_DIRECTORY}" is missing: users cannot choose a desktop`, RECOVER)], '');
  const what = 'the greeter has no desktops of the stable generation: users in scope cannot choose one';
  return found(offered > 0 ? [] : [problem(what, LIST_OR_INSTALL)], `${offered} to choose from`);
}

/** PAM's common-session, and what keeps the variables of users from the programs of root. */
export interface PamState {
  /** Undefined if there is no such file. */
  readonly text: string | undefined;
  readonly isStatic: boolean;
  /** The stacks with `user_readenv=1`. */
  readonly open: readonly string[];
}

/** Checks the position of our lines, and the interpreter of the hook. */
export function judgePam({ text = '', isStatic: isSafe, open }: PamState): CheckResult {
  if (!namesHook(text)) return notApplicable('it is not enabled');
  const named = open.length > 0 ? ` (${open.join(', ')}: user_readenv=1)` : '';
  const what = `"${LAUNCHER}" is missing or is not static: users could run code as root${named}`;
  const launcher = isSafe ? [] : [problem(what, installHint('busybox'))];
  const late = pamBypasses(text).map(p => problem(p.what, p.fix));
  return found([...launcher, ...late], 'nothing of the user starts before the hook');
}

export const desktopChecks = [
  check({
    group: GROUP,
    title: 'Xsession',
    gather: ({ host }): Snippet => ({
      wanted: adaptersIn(host).length > 0 || host.exists(ENABLED_MARKER),
      xsession: host.exists(XSESSION),
      text: host.stat(SNIPPET)?.kind === 'file' ? host.read(SNIPPET) : undefined,
      before: partsBefore(host.list(PARTS), '00mayfly'),
    }),
    evaluate: judgeSnippet,
  }),
  check({
    group: GROUP,
    title: 'greeter',
    gather: ({ host }): Offer => ({
      looking: adaptersIn(host).filter(a => a === 'lightdm' || a === 'gdm'),
      offered: desktopsInside(host),
    }),
    evaluate: judgeOffer,
  }),
  check({
    group: GROUP,
    title: 'PAM',
    gather: ({ host }): PamState => ({
      text: host.read(PAM_STACK),
      isStatic: isStatic(host.read(LAUNCHER)),
      open: stacksWithUserEnvironment(host),
    }),
    evaluate: judgePam,
  }),
];
