/** Whether every desktop a person can choose goes inside, and nothing leads past the hooks. */

import { namesHook, PAM_STACK, pamBypasses } from '../../desktop/adapters/pam.ts';
import { BRING_BACK } from '../../desktop/reinstall.ts';
import { SESSION_TYPES } from '../../linux/desktop-entry.ts';
import { GREETER_DIRECTORY } from '../../state/paths.ts';
import { ENABLED_MARKER } from '../../update/greeter.ts';
import { type CheckResult, check, type Finding, found, notApplicable, problem } from './check.ts';
import { adaptersIn } from './setup.ts';

const GROUP = 'desktops';

const XSESSION = '/etc/X11/Xsession';

const SNIPPET = '/etc/X11/Xsession.d/97mayfly';

/** What takes X11 desktops inside. */
export interface Snippet {
  readonly wanted: boolean;
  readonly xsession: boolean;
  readonly text: string | undefined;
}

export function judgeSnippet(s: Snippet): CheckResult {
  if (!s.wanted) return notApplicable('no display manager is enabled');
  const findings: Finding[] = [];
  if (!s.xsession) findings.push(problem(`"${XSESSION}" is missing`, 'apt install x11-common'));
  if (s.text === undefined)
    findings.push(problem(`"${SNIPPET}" is missing: desktops run on the host`, BRING_BACK));
  else if (!s.text.includes('STARTUP="$mayfly_wrapper $STARTUP"')) {
    const fix = `rm ${SNIPPET} && ${BRING_BACK}`;
    findings.push(problem(`"${SNIPPET}" takes nobody inside: it was changed`, fix));
  }
  return found(findings, SNIPPET);
}

/** What the greeter has to offer. */
export interface Offer {
  /** Display managers that were told to look there. */
  readonly looking: readonly string[];
  readonly offered: number;
}

export function judgeOffer({ looking, offered }: Offer): CheckResult {
  if (looking.length === 0) return notApplicable('no display manager looks there');
  const what = `"${GREETER_DIRECTORY}" lists no desktop: nobody can choose one`;
  return found(offered > 0 ? [] : [problem(what, 'mayfly recover')], `${offered} to choose from`);
}

/** Where our lines stand in a PAM stack. `text` is that of common-session; undefined where there is none. */
export function judgePam(text = ''): CheckResult {
  if (!namesHook(text)) return notApplicable('it is not enabled');
  return found(
    pamBypasses(text).map(p => problem(p.what, p.fix)),
    'nothing of the person is started before',
  );
}

export const desktopChecks = [
  check({
    group: GROUP,
    title: 'Xsession',
    gather: ({ host }): Snippet => ({
      wanted: adaptersIn(host).length > 0 || host.exists(ENABLED_MARKER),
      xsession: host.exists(XSESSION),
      text: host.stat(SNIPPET)?.kind === 'file' ? host.read(SNIPPET) : undefined,
    }),
    evaluate: judgeSnippet,
  }),
  check({
    group: GROUP,
    title: 'greeter',
    gather: ({ host }): Offer => ({
      looking: adaptersIn(host).filter(a => a !== 'pam'),
      offered: SESSION_TYPES.flatMap(kind => host.list(`${GREETER_DIRECTORY}/${kind}`)).length,
    }),
    evaluate: judgeOffer,
  }),
  check({ group: GROUP, title: 'PAM', gather: ({ host }) => host.read(PAM_STACK), evaluate: judgePam }),
];
