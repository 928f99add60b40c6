/** Whether every desktop a person can choose goes inside, and nothing leads past the hooks. */
import { ENABLED, KINDS, OFFERED } from '../entries.ts';
import { check, type Finding, found, notApplicable, problem, type Verdict } from './examine.ts';
import { adaptersIn } from './setup.ts';

const GROUP = 'desktops';
const XSESSION = '/etc/X11/Xsession';
const SNIPPET = '/etc/X11/Xsession.d/97mayfly';
const COMMON = '/etc/pam.d/common-session';
/** dpkg does not bring back a configuration file that was removed, unless it is told to. */
const BRING_BACK = 'apt install --reinstall -o Dpkg::Options::=--force-confmiss mayfly';

/** What takes X11 desktops inside. */
export interface Snippet {
  readonly wanted: boolean;
  readonly xsession: boolean;
  readonly text: string | undefined;
}

export function judgeSnippet(s: Snippet): Verdict {
  if (!s.wanted) return notApplicable('no display manager is enabled');
  const findings: Finding[] = [];
  if (!s.xsession) findings.push(problem(`"${XSESSION}" is missing`, 'apt install x11-common'));
  if (s.text === undefined)
    findings.push(problem(`"${SNIPPET}" is missing: desktops run on the host`, BRING_BACK));
  else if (!s.text.includes('STARTUP="$mayfly_wrapper $STARTUP"')) {
    const mend = `rm ${SNIPPET} && ${BRING_BACK}`;
    findings.push(problem(`"${SNIPPET}" takes nobody inside: it was changed`, mend));
  }
  return found(findings, SNIPPET);
}

/** What the greeter has to offer. */
export interface Offer {
  /** Display managers that were told to look there. */
  readonly looking: readonly string[];
  readonly offered: number;
}

export function judgeOffer({ looking, offered }: Offer): Verdict {
  if (looking.length === 0) return notApplicable('no display manager looks there');
  const what = `"${OFFERED}" lists no desktop: nobody can choose one`;
  return found(offered > 0 ? [] : [problem(what, 'mayfly recover')], `${offered} to choose from`);
}

/**
 * Where our lines stand in a PAM stack. pam_systemd starts the person's service manager, which has to find the session
 * made: a line of ours behind it comes too late. `text` is that of common-session; undefined where there is none.
 */
export function judgePam(text: string | undefined): Verdict {
  const rules = (text ?? '').split('\n').map((line, i) => ({ line: i + 1, rule: line.replace(/#.*/, '') }));
  const ours = rules.filter(r => r.rule.includes('mayfly'));
  if (ours.length === 0) return notApplicable('it is not enabled');
  const systemd = rules.find(r => /\bpam_systemd\.so\b/.test(r.rule));
  const late = ours.filter(r => systemd !== undefined && r.line > systemd.line);
  const findings = late.map(r =>
    problem(
      `line ${r.line} of "${COMMON}" comes after pam_systemd.so: people's services run on the host`,
      // pam-auth-update(8) puts them in the right order; it does not touch what stands outside its block.
      `move line ${systemd?.line} of ${COMMON}, pam_systemd.so, below line ${r.line}`,
    ),
  );
  return found(findings, systemd ? 'before pam_systemd.so' : 'without pam_systemd.so');
}

export const desktopChecks = [
  check({
    group: GROUP,
    title: 'Xsession',
    gather: ({ host }): Snippet => ({
      wanted: adaptersIn(host).length > 0 || host.exists(ENABLED),
      xsession: host.exists(XSESSION),
      text: host.stat(SNIPPET)?.kind === 'file' ? host.read(SNIPPET) : undefined,
    }),
    judge: judgeSnippet,
  }),
  check({
    group: GROUP,
    title: 'greeter',
    gather: ({ host }): Offer => ({
      looking: adaptersIn(host).filter(a => a !== 'pam'),
      offered: KINDS.flatMap(kind => host.list(`${OFFERED}/${kind}`)).length,
    }),
    judge: judgeOffer,
  }),
  check({ group: GROUP, title: 'PAM', gather: ({ host }) => host.read(COMMON), judge: judgePam }),
];
