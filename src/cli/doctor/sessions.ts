/** Sessions, and what may be left of earlier ones. Nothing here is a finding unless it is still there at a second look. */
import { EXIT, installHint } from '../../advice.ts';
import type { Host } from '../../linux/host.ts';
import { bootId } from '../../linux/process-id.ts';
import { mountLines } from '../../linux/processes.ts';
import { isSessionId } from '../../names.ts';
import { overBecause } from '../../session/over.ts';
import { entryPath, listEntries } from '../../session/schroot.ts';
import { type Paths, userFiles } from '../../state/paths.ts';
import { readPool } from '../../state/pool.ts';
import { readSession, sessionIds } from '../../state/sessions.ts';
import { type CheckResult, check, type Finding, found, problem, type Subject, warning } from './check.ts';
import { judgeOwner, owned } from './setup.ts';

const SESSIONS = 'sessions';

const SCHROOT = 'schroot';

const RECOVER = 'mayfly recover';

/** One record. */
export interface Known {
  readonly id: string;
  /** It can be read. */
  readonly whole: boolean;
  readonly stuck: string | undefined;
  readonly over: string | undefined;
  /** Milliseconds since it was written. */
  readonly age: number;
}

/** How long an end may take, milliseconds; as long as its unit's retries leave it alone. */
const END_TIMEOUT = 60_000;

export function judgeSessions(all: readonly Known[]): CheckResult {
  const findings = all.flatMap((s): Finding[] => {
    if (!s.whole) return [warning(`the record of ${s.id} is not whole`, RECOVER)];
    if (s.stuck !== undefined) return [problem(`${s.id} is stuck: ${s.stuck}`, RECOVER, EXIT.stuck)];
    if (s.over === undefined || s.age < END_TIMEOUT) return [];
    return [warning(`${s.id} is over and still there: ${s.over}`, RECOVER)];
  });
  return found(findings, all.length === 0 ? 'none' : `${all.length}, all in use or ending`);
}

function known({ host, paths }: Subject): Known[] {
  return sessionIds(host, paths).flatMap(id => {
    const s = readSession(host, paths, id);
    const record = host.lstat(`${paths.sessions}/${id}.json`);
    if (!record) return []; // it has just ended
    return {
      id,
      whole: s !== undefined,
      stuck: s?.stuck,
      over: s && overBecause(host, s),
      age: host.now() - record.mtimeMs,
    };
  });
}

/** What names a session: `ids` of things that were there before the records were read, and still are. */
export interface Left {
  readonly what: string;
  readonly ids: readonly string[];
}

export function judgeLeft(all: readonly Left[]): CheckResult {
  const findings = all
    .filter(l => l.ids.length > 0)
    .map(l => warning(`${l.what} of no session: ${l.ids.join(', ')}`, RECOVER));
  return found(findings, 'nothing');
}

/** Ids without a record. What a session makes is made after its record, and goes before it does. */
async function strays(
  host: Host,
  paths: Paths,
  look: () => readonly string[] | Promise<readonly string[]>,
): Promise<string[]> {
  const before = (await look()).filter(isSessionId);
  const records = new Set(sessionIds(host, paths));
  const still = new Set(await look());
  return [...new Set(before)].filter(id => !records.has(id) && still.has(id));
}

async function gatherLeft({ host, paths, backend }: Subject): Promise<Left[]> {
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

/** What a person's wrapper and service manager are led by. */
export interface Led {
  readonly uid: string;
  /** The session named, and whether it has a record. */
  readonly session: string | undefined;
  readonly known: boolean;
  /** Where services get their root, and whether it is there. */
  readonly root: string | undefined;
  readonly there: boolean;
}

export function judgeLed(all: readonly Led[]): CheckResult {
  const findings = all.flatMap(l => {
    const fix = l.known ? `mayfly end ${l.session}` : RECOVER;
    return [
      ...(l.root !== undefined && !l.there
        ? [problem(`the services of uid ${l.uid} are led to "${l.root}", which is not there`, fix)]
        : []),
      ...(l.session !== undefined && !l.known
        ? [warning(`uid ${l.uid} is sent into ${l.session}, which is no more`, fix)]
        : []),
    ];
  });
  return found(findings, 'they lead to living sessions, or the host');
}

function ledOf({ host, paths }: Subject, uid: string): Led {
  const theirs = userFiles(paths, uid);
  const session = host.read(theirs.session)?.trim();
  const root = host.readlink(theirs.root);
  return {
    ...{ uid, session, root },
    known: session !== undefined && readSession(host, paths, session) !== undefined,
    there: root !== undefined && host.exists(root),
  };
}

/** Of those who are just logging in or out, nothing is said. */
function gatherLed(on: Subject): Led[] {
  const look = (): string[] => on.host.list(on.paths.users).map(uid => JSON.stringify(ledOf(on, uid)));
  const before = new Set(look());
  return look()
    .filter(led => before.has(led))
    .map(led => JSON.parse(led) as Led);
}

/** Entries of ours in schroot's directory. */
export interface Entries {
  readonly stray: readonly string[];
  readonly missing: readonly string[];
}

export function judgeEntries({ stray, missing }: Entries): CheckResult {
  return found(
    [
      ...stray.map(id => problem(`there is an entry of ${id}, which is no session`, RECOVER)),
      ...missing.map(id => problem(`${id} has no entry, so that nobody gets into it`, `mayfly end ${id}`)),
    ],
    'as many as sessions',
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

/** schroot's own sessions on our roots: our entries have none, but one that was written by hand can. */
export interface Own {
  readonly recovers: boolean;
  readonly sessions: readonly string[];
}

export function judgeOwn({ recovers, sessions }: Own): CheckResult {
  const findings = sessions.map(id => {
    const again = recovers ? ', and schroot.service mounts it again at boot' : '';
    return problem(`schroot has a session "${id}" on a root of ours${again}`, `schroot -e -c session:${id}`);
  });
  return found(
    findings,
    recovers ? 'recovered at boot, and none of them is on a root of ours' : 'not recovered at boot',
  );
}

function gatherOwn({ host, paths }: Subject): Own {
  const directory = '/var/lib/schroot/session';
  return {
    recovers: !/^\s*START_ACTION=["']?(end|none)/m.test(host.read('/etc/default/schroot') ?? ''),
    sessions: host
      .list(directory)
      .filter(name => host.read(`${directory}/${name}`)?.includes(`=${paths.roots}/`)),
  };
}

export const sessionChecks = [
  check({ group: SESSIONS, title: 'records', gather: known, evaluate: judgeSessions }),
  check({ group: SESSIONS, title: 'left behind', gather: gatherLeft, evaluate: judgeLeft }),
  check({ group: SESSIONS, title: 'people', gather: gatherLed, evaluate: judgeLed }),
  check({
    group: SCHROOT,
    title: 'directory',
    gather: ({ host, paths }) => owned(host, paths.schroot),
    evaluate: d =>
      d.stat
        ? found(judgeOwner(d), `only root can change ${d.path}`)
        : found([problem(`"${d.path}" is not there`, installHint('schroot'))], ''),
  }),
  check({ group: SCHROOT, title: 'entries', gather: gatherEntries, evaluate: judgeEntries }),
  check({
    group: SCHROOT,
    title: 'its own sessions',
    gather: gatherOwn,
    evaluate: judgeOwn,
  }),
];
