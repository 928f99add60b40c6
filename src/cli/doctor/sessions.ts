/** Sessions, and leftovers of earlier ones. A leftover is only reported if it is still there when checked again. */
import { EXIT, installHint } from '../../advice.ts';
import type { Host } from '../../linux/host.ts';
import { bootId } from '../../linux/process-id.ts';
import { mountLines } from '../../linux/processes.ts';
import { isSessionId } from '../../names.ts';
import { hasTime, overBecause } from '../../session/end-reason.ts';
import { entryPath, listEntries } from '../../session/schroot.ts';
import { type Paths, userFiles } from '../../state/paths.ts';
import { readPool } from '../../state/pool.ts';
import { readSession, recordPath, sessionIds } from '../../state/sessions.ts';
import { type CheckResult, check, type Finding, found, problem, type Subject, warning } from './check.ts';
import { discardedCheck } from './discarded.ts';
import { judgeOwner, owned } from './setup.ts';

const SESSIONS = 'sessions';

const SCHROOT = 'schroot';

const RECOVER = 'mayfly recover';

/** A session record. */
export interface SessionFacts {
  readonly id: string;
  /** It is not corrupt. */
  readonly readable: boolean;
  readonly stuck: string | undefined;
  readonly over: string | undefined;
  /** Milliseconds since the record was written. */
  readonly age: number;
}

/** How long the end of a session may take, in milliseconds; mayfly-end@.service retries that long by itself. */
const END_TIMEOUT = 60_000;

export function judgeSessions(all: readonly SessionFacts[]): CheckResult {
  const findings = all.flatMap((s): Finding[] => {
    if (!s.readable) return [warning(`the record of ${s.id} is corrupt`, RECOVER)];
    if (s.stuck !== undefined) return [problem(`${s.id} is stuck: ${s.stuck}`, RECOVER, EXIT.stuck)];
    if (s.over === undefined || s.age < END_TIMEOUT) return [];
    return [warning(`${s.id} is over but was not ended: ${s.over}`, RECOVER)];
  });
  return found(findings, all.length === 0 ? 'none' : `${all.length}, all live or ending`);
}

function gatherSessions({ host, paths }: Subject): SessionFacts[] {
  return sessionIds(host, paths).flatMap(id => {
    const s = readSession(host, paths, id);
    const record = host.lstat(recordPath(host, paths, id));
    if (!record) return []; // the session has just ended
    return {
      id,
      readable: s !== undefined,
      stuck: s?.stuck,
      over: s && !hasTime(host, s) ? overBecause(host, s) : undefined,
      age: host.now() - record.mtimeMs,
    };
  });
}

/** Leftovers: the session IDs of objects that were there before and after the records were read. */
export interface Leftovers {
  readonly what: string;
  readonly ids: readonly string[];
}

export function judgeLeftovers(all: readonly Leftovers[]): CheckResult {
  const findings = all
    .filter(l => l.ids.length > 0)
    .map(l => warning(`${l.what} without a session: ${l.ids.join(', ')}`, RECOVER));
  return found(findings, 'none');
}

/**
 * The session IDs that `list` returns and that have no record. Lists twice, around reading the records: everything else
 * of a session is created after its record and removed before it.
 */
async function strays(
  host: Host,
  paths: Paths,
  list: () => readonly string[] | Promise<readonly string[]>,
): Promise<string[]> {
  const before = (await list()).filter(isSessionId);
  const records = new Set(sessionIds(host, paths));
  const still = new Set(await list());
  return [...new Set(before)].filter(id => !records.has(id) && still.has(id));
}

async function gatherLeftovers({ host, paths, backend }: Subject): Promise<Leftovers[]> {
  const pool = readPool(host, paths);
  const volumes = async (): Promise<string[]> => {
    const all = pool ? (await backend(pool.backend).list(pool.path)).volumes : [];
    return all.filter(v => v.role === 'session').map(v => v.name);
  };
  const mounts = (): string[] =>
    mountLines(host, 'self')
      .filter(m => m.place.startsWith(`${paths.roots}/`))
      .map(m => m.place.slice(paths.roots.length + 1).split('/')[0] ?? '');
  return [
    { what: 'volumes', ids: await strays(host, paths, volumes) },
    { what: 'mount points', ids: await strays(host, paths, () => host.list(paths.roots)) },
    { what: 'mounts', ids: await strays(host, paths, mounts) },
  ];
}

/** Where a user's session wrapper and service manager are directed to. */
export interface Redirect {
  readonly uid: string;
  /** The session that the wrapper enters, and whether it has a record. */
  readonly session: string | undefined;
  readonly known: boolean;
  /** The root directory of the user's services, and whether it exists. */
  readonly root: string | undefined;
  readonly there: boolean;
}

export function judgeRedirects(all: readonly Redirect[]): CheckResult {
  const findings = all.flatMap(l => {
    const fix = l.known ? `mayfly end ${l.session}` : RECOVER;
    return [
      ...(l.root !== undefined && !l.there
        ? [
            problem(
              `the services of uid ${l.uid} have the root directory "${l.root}", which does not exist`,
              fix,
            ),
          ]
        : []),
      ...(l.session !== undefined && !l.known
        ? [warning(`logins of uid ${l.uid} enter session ${l.session}, which does not exist`, fix)]
        : []),
    ];
  });
  return found(findings, 'directed to existing sessions or the host');
}

function redirectOf({ host, paths }: Subject, uid: string): Redirect {
  const files = userFiles(paths, uid);
  const session = host.read(files.session)?.trim();
  const root = host.readlink(files.root);
  return {
    ...{ uid, session, root },
    known: session !== undefined && readSession(host, paths, session) !== undefined,
    there: root !== undefined && host.exists(root),
  };
}

/** Only what is the same twice, so that users who are logging in or out are left out. */
function gatherRedirects(on: Subject): Redirect[] {
  const list = (): string[] => on.host.list(on.paths.users).map(uid => JSON.stringify(redirectOf(on, uid)));
  const before = new Set(list());
  return list()
    .filter(text => before.has(text))
    .map(text => JSON.parse(text) as Redirect);
}

/** Our entries in schroot's directory: those without a session, and sessions without one. */
export interface Entries {
  readonly stray: readonly string[];
  readonly missing: readonly string[];
}

export function judgeEntries({ stray, missing }: Entries): CheckResult {
  return found(
    [
      ...stray.map(id => problem(`there is an entry for ${id}, but no such session`, RECOVER)),
      ...missing.map(id => problem(`${id} has no entry: nobody can enter it`, `mayfly end ${id}`)),
    ],
    'one for each session',
  );
}

async function gatherEntries({ host, paths }: Subject): Promise<Entries> {
  const isOpen = (id: string): boolean => {
    const s = readSession(host, paths, id);
    return s?.state === 'live' && s.boot === bootId(host);
  };
  const closed = (id: string): boolean => !host.exists(entryPath(paths.schroot, id)) && isOpen(id);
  return {
    stray: await strays(host, paths, () => listEntries(host, paths.schroot, paths.roots)),
    missing: sessionIds(host, paths).filter(isOpen).filter(closed),
  };
}

/** schroot's own sessions on our roots. Our entries create none, but an entry written by hand can. */
export interface SchrootSessions {
  readonly recovers: boolean;
  readonly sessions: readonly string[];
}

export function judgeSchrootSessions({ recovers, sessions }: SchrootSessions): CheckResult {
  const findings = sessions.map(id => {
    const atBoot = recovers ? ', and schroot.service mounts it again at boot' : '';
    return problem(
      `schroot has a session "${id}" on a root directory of Mayfly${atBoot}`,
      `schroot -e -c session:${id}`,
    );
  });
  return found(
    findings,
    recovers
      ? 'schroot recovers its own at boot; none has a root directory of Mayfly'
      : 'schroot does not recover its own at boot',
  );
}

function gatherSchrootSessions({ host, paths }: Subject): SchrootSessions {
  const directory = '/var/lib/schroot/session';
  return {
    recovers: !/^\s*START_ACTION=["']?(end|none)/m.test(host.read('/etc/default/schroot') ?? ''),
    sessions: host
      .list(directory)
      .filter(name => host.read(`${directory}/${name}`)?.includes(`=${paths.roots}/`)),
  };
}

export const sessionChecks = [
  check({ group: SESSIONS, title: 'records', gather: gatherSessions, evaluate: judgeSessions }),
  check({ group: SESSIONS, title: 'leftovers', gather: gatherLeftovers, evaluate: judgeLeftovers }),
  discardedCheck,
  check({ group: SESSIONS, title: 'users', gather: gatherRedirects, evaluate: judgeRedirects }),
  check({
    group: SCHROOT,
    title: 'directory',
    gather: ({ host, paths }) => owned(host, paths.schroot),
    evaluate: d =>
      d.stat
        ? found(judgeOwner(d), `${d.path}, writable only by root`)
        : found([problem(`"${d.path}" does not exist`, installHint('schroot'))], ''),
  }),
  check({ group: SCHROOT, title: 'entries', gather: gatherEntries, evaluate: judgeEntries }),
  check({
    group: SCHROOT,
    title: 'sessions',
    gather: gatherSchrootSessions,
    evaluate: judgeSchrootSessions,
  }),
];
