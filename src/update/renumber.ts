/**
 * Gives the files of a working copy the numbers that their owners have on this machine (see `numbers.ts`), and lists the
 * owners of a tree that is sealed. It is done here, once, and not at each login: an idmapped mount would cost every
 * login a user namespace, needs a kernel and a file system that can do it, and cannot stand below an overlay in all of
 * the supported releases.
 *
 * If this is killed, the working copy is removed like that of every interrupted update. Where it must be kept, because it
 * is the last tree, `finishRenumbering` completes it: what is to be done is on record, as absolute values.
 */
import { MayflyError } from '../errors.ts';
import {
  isInRange,
  namedNumbers,
  renumberLines,
  renumberRanges,
  withNewGroups,
} from '../linux/account-files.ts';
import type { Command, Output } from '../linux/command.ts';
import { parseJson } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import {
  applyOwnersCommand,
  type NumberMoves,
  parseSurvey,
  planOwnersCommand,
  surveyCommand,
} from '../linux/ownership.ts';
import type { Machine } from '../state/machine.ts';
import { ownersPath, type UnnamedNumbers } from '../state/owners.ts';
import type { Paths } from '../state/paths.ts';
import {
  askHost,
  compareNumbers,
  DATABASES,
  movesFiles,
  NUMBER_KINDS,
  type NumberKind,
  type Renumbering,
  readEtc,
} from './host-numbers.ts';
import { candidates, isFixed } from './numbers.ts';

/** Gets a line for each name that has another number from now on. */
type Say = (line: string) => void;

export const NONE_UNNAMED: UnnamedNumbers = { users: {}, groups: {} };

/** The numbers in use in the tree without a name in it. What is known of them from before is kept. */
async function findUnnamed(
  on: Machine,
  tree: string,
  known: UnnamedNumbers | 'of this host',
  list: string,
): Promise<UnnamedNumbers> {
  const used = parseSurvey((await runBound(on, surveyCommand(tree, list))).stdout);
  const of = async (kind: NumberKind): Promise<Record<string, string>> => {
    const named = new Set(namedNumbers(readEtc(on.host, tree, DATABASES[kind]) ?? '').map(n => n.number));
    const numbers = used[kind].filter(number => !named.has(number) && !isFixed(number));
    const theirs =
      known === 'of this host' ? (await askHost(on, DATABASES[kind], [], numbers)).byNumber : undefined;
    const nameOf = (number: number): string =>
      theirs?.get(number) ?? (known === 'of this host' ? '' : (known[kind][number] ?? ''));
    return Object.fromEntries(numbers.map(number => [String(number), nameOf(number)]));
  };
  return { users: await of('users'), groups: await of('groups') };
}

/** Finds a free number for each that must move. */
async function settle(
  on: Machine,
  tree: string,
  r: Renumbering,
  unnamed: UnnamedNumbers,
  kind: NumberKind,
): Promise<ReadonlyMap<number, number>> {
  const moves = new Map(r.moves[kind]);
  const used = new Set([...r.named[kind].map(n => n.number), ...moves.values()]);
  for (const number of Object.keys(unnamed[kind])) used.add(Number(number));
  const ranges = ['subuid', 'subgid'].flatMap(name => [
    readEtc(on.host, tree, name) ?? '',
    on.host.read(`/etc/${name}`) ?? '',
  ]);
  for (const number of r.homeless[kind]) {
    const free = candidates(number).filter(n => !used.has(n) && !ranges.some(text => isInRange(text, n)));
    for (let at = 0; !moves.has(number); at += 64) {
      const some = free.slice(at, at + 64);
      if (some.length === 0)
        throw new MayflyError('update', `no number is free for ${DATABASES[kind]} number ${number}`);
      const { byNumber } = await askHost(on, DATABASES[kind], [], some);
      const found = some.find(n => !byNumber.has(n));
      if (found !== undefined) moves.set(number, found);
    }
    used.add(moves.get(number) ?? number);
  }
  return moves;
}

/** Runs a command that ends with this process, because its tree may be removed then. */
const runBound = ({ host }: Machine, { file, args, ...c }: Command): Promise<Output> =>
  host.run({ ...c, file: 'setpriv', args: ['--pdeathsig', 'KILL', '--', file, ...args] });

/** What is to be done with the working copy: a list for the program, and, written after it, the texts of the databases. */
function recordOf({ state }: Paths): { readonly list: string; readonly texts: string } {
  return { list: `${state}/renumber.list`, texts: `${state}/renumber.json` };
}

/** Forgets what was to be done with a working copy that no longer exists. */
export function dropRenumbering(host: Host, paths: Paths): void {
  const { list, texts } = recordOf(paths);
  host.unlink(texts);
  host.unlink(list);
}

/** Completes the work on a tree if it was begun. */
export async function finishRenumbering(on: Machine, tree: string): Promise<void> {
  const { host, paths } = on;
  const { list, texts } = recordOf(paths);
  const text = host.read(texts);
  if (text !== undefined) {
    const all = parseJson<Record<string, string>>(texts, text, 'mayfly doctor', isTexts);
    await runBound(on, applyOwnersCommand(tree, list));
    for (const [name, wanted] of Object.entries(all)) await replaceEtc(host, tree, name, wanted);
  }
  dropRenumbering(host, paths);
}

const isTexts = (all: Record<string, string>): boolean =>
  typeof all === 'object' && all !== null && Object.values(all).every(text => typeof text === 'string');

/** Replaces a file of the tree's /etc, and keeps its owner, mode and time: another time would be a change of its own. */
async function replaceEtc(host: Host, tree: string, name: string, text: string): Promise<void> {
  const path = `${tree}/etc/${name}`;
  const before = host.lstat(path);
  if (before?.kind !== 'file' || readEtc(host, tree, name) === text) return;
  const { mode, uid, gid, mtimeMs } = before;
  host.write(path, text, { mode, uid, gid });
  const args = ['--no-create', `--date=@${(mtimeMs / 1000).toFixed(3)}`, '--', path];
  await host.run({ file: 'touch', args, effect: 'write' });
}

/** The new texts of the tree's databases, and of the backups beside them. */
function newTexts(host: Host, tree: string, r: Renumbering): Record<string, string> {
  const changes: Record<string, (text: string) => string> = {
    passwd: text => renumberLines(text, r.moves, 'passwd'),
    group: text => withNewGroups(renumberLines(text, r.moves, 'group'), r.missing, 'group'),
    gshadow: text => withNewGroups(text, r.missing, 'gshadow'),
    'passwd-': text => renumberLines(text, r.moves, 'passwd'),
    'group-': text => renumberLines(text, r.moves, 'group'),
    subuid: text => renumberRanges(text, r.moves.users),
    subgid: text => renumberRanges(text, r.moves.users),
  };
  const texts: Record<string, string> = {};
  for (const [name, change] of Object.entries(changes)) {
    const text = readEtc(host, tree, name);
    if (text !== undefined && text !== '' && change(text) !== text) texts[name] = change(text);
  }
  return texts;
}

async function perform(on: Machine, tree: string, r: Renumbering, say: Say): Promise<void> {
  const { host, paths } = on;
  const { list, texts } = recordOf(paths);
  dropRenumbering(host, paths);
  await runBound(on, planOwnersCommand(tree, list, r.moves));
  const json = `${JSON.stringify(newTexts(host, tree, r))}\n`;
  if (host.lstat(list)) host.sync(list);
  host.write(texts, json, { mode: 0o600, durable: true });
  await finishRenumbering(on, tree);
  for (const kind of NUMBER_KINDS)
    for (const [from, to] of r.moves[kind]) {
      const own = r.named[kind].filter(n => n.number === from).map(n => `"${n.name}"`);
      const who = own.length > 0 ? own.join(' and ') : 'without a name';
      say(`${kind === 'users' ? 'user' : 'group'} ${who}: number ${from} is now ${to}`);
    }
  for (const { name, number } of r.missing) say(`group "${name}": added with number ${number}`);
}

/** The same numbers after files were given others. */
function moveKeys(known: UnnamedNumbers, moves: NumberMoves): UnnamedNumbers {
  const of = (kind: NumberKind): Record<string, string> =>
    Object.fromEntries(
      Object.entries(known[kind]).map(([n, name]) => [String(moves[kind].get(Number(n)) ?? n), name]),
    );
  return { users: of('users'), groups: of('groups') };
}

/**
 * Gives users and groups of the working copy the host's numbers. If nothing differs, this costs two calls of getent(1).
 * `known`: what the last generation says of numbers without a name; if it says nothing, all files are looked at. Returns
 * what is to be said of them now.
 */
export async function alignNumbers(
  on: Machine,
  tree: string,
  last: UnnamedNumbers | undefined,
  say: Say,
): Promise<UnnamedNumbers> {
  const { list } = recordOf(on.paths);
  const known = last ?? (await findUnnamed(on, tree, NONE_UNNAMED, list));
  const r = await compareNumbers(on, tree, known);
  if (!movesFiles(r)) {
    if (r.missing.length > 0) await perform(on, tree, r, say);
    else dropRenumbering(on.host, on.paths);
    return known;
  }
  // Files with a number that has no name would be mixed with those that are given this number.
  const unnamed = await findUnnamed(on, tree, known, list);
  const full = await compareNumbers(on, tree, unnamed);
  const users = await settle(on, tree, full, unnamed, 'users');
  const groups = await settle(on, tree, full, unnamed, 'groups');
  const moves = { users, groups };
  await perform(on, tree, { ...full, moves }, say);
  return moveKeys(unnamed, moves);
}

/**
 * The last look at the tree of generation `number` before it is sealed: aligns what is left, and writes the list of
 * owners. `known` is "of this host" if the tree is a copy of it: numbers without a name are then those of its people.
 */
export async function listOwners(
  on: Machine,
  tree: string,
  number: number,
  known: UnnamedNumbers | 'of this host',
  say: Say,
): Promise<UnnamedNumbers> {
  const list = ownersPath(on.paths, number);
  const before = await findUnnamed(on, tree, known, list);
  const r = await compareNumbers(on, tree, before);
  if (!movesFiles(r) && r.missing.length === 0) return before;
  return findUnnamed(on, tree, await alignNumbers(on, tree, before, say), list);
}
