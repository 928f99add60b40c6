/**
 * Creates the pool, the first master and generation 1.
 *
 * The tree is filled as the pool's `work` volume and sealed as a generation. Only then does it become master, proven
 * and stable. A crash before that leaves a work volume, a master or a generation that is not proven; another run of
 * `init` removes these leftovers and nothing else.
 */
import { REMEDY } from '../advice.ts';
import { MayflyError } from '../errors.ts';
import { lookupUser } from '../linux/accounts.ts';
import { fileSystemType } from '../linux/file-system-type.ts';
import { prepareSpare } from '../session/spare-snapshot.ts';
import {
  forgetAll,
  type Generation,
  generationNumbers,
  lastNumber,
  stableNumber,
  takeNumber,
} from '../state/generations.ts';
import { withLock } from '../state/locks.ts';
import type { Machine } from '../state/machine.ts';
import { makeDirectories } from '../state/paths.ts';
import { imagePath, readPool, writePool } from '../state/pool.ts';
import { movePointer } from '../state/promotion-lock.ts';
import { sessionIds } from '../state/sessions.ts';
import { type BackendKind, inOneLine, type Pool, type Volume, workOf } from '../volume/backend.ts';
import { dropHollow } from '../volume/btrfs-inodes.ts';
import { tryOverlay } from '../volume/overlay-trial.ts';
import { makeMaster } from './adopt.ts';
import { tagSessions } from './cache-tag.ts';
import { findPool } from './find-pool.ts';
import { finishTree, requireProof } from './first-tree.ts';
import { tryPublishSessions } from './greeter.ts';
import { writeHealth } from './health.ts';
import { writeAccounts } from './host-copy.ts';
import { type LvmChoice, openLvmPool, sizesOf } from './init-lvm.ts';
import { settleMissingNames } from './missing-names.ts';
import { mountPool } from './pool.ts';
import { makePoolDirectory } from './pool-directory.ts';
import { makeImage } from './pool-image.ts';
import {
  mountPlace,
  poolPlaceProblem,
  propagationOf,
  propagationProblem,
  withMountPoint,
} from './pool-place.ts';
import { NONE_UNNAMED } from './renumber.ts';
import { acceptCandidate, seal } from './sealing.ts';
import { checkSource, describeSource, fillTree, type Progress, type Source } from './source.ts';
import { hasOneToAdopt, sealedNumbers } from './unrecorded.ts';
import { unmountLeftovers, withMountedVolume } from './volume-tree.ts';

export interface InitOptions {
  readonly backend: BackendKind;
  readonly source: Source;
  readonly lvm?: LvmChoice;
  readonly say: Progress;
}

/**
 * Creates everything and returns generation 1, or the next number after an earlier attempt. Throws `exists` if there
 * is a stable generation or a pool of another backend; `refused` if proven generations or sessions exist, if the pool
 * holds volumes that are not on record, if the source is not a complete system, or if a check or the trial login fails;
 * `missing-tool` if the backend cannot work here; `usage`, `full` and `unsafe` for the source and the pool; and `locked`.
 */
export async function init(on: Machine, o: InitOptions): Promise<Generation> {
  const { host, paths } = on;
  makeDirectories(host, paths);
  const made = await withLock(host, paths, 'update', 0, async lock => {
    const stable = stableNumber(host, paths);
    if (stable !== undefined) {
      throw new MayflyError('exists', `"${paths.state}" is already in use: generation ${stable} is stable`, {
        generation: stable,
        hint: REMEDY.status,
      });
    }
    refuseIfInUse(on);
    const problem = (await on.backend(o.backend).check())[0];
    if (problem) throw new MayflyError('missing-tool', inOneLine(problem));
    await checkSource(host, o.source);
    const pool = await openOrMakePool(on, o);
    const late = propagationProblem(await propagationOf(on));
    if (late) o.say(inOneLine(late));
    await lookupUser(host, on.config.check.user); // before the work: the trial login needs it
    const backend = on.backend(pool.backend);

    await unmountLeftovers(on, pool);
    const found = await backend.list(pool.path);
    const unproven = (['candidate', 'retired'] as const).flatMap(s => generationNumbers(host, paths, s));
    const known = { unproven, last: lastNumber(host, paths), sealed: await sealedNumbers(on, pool) };
    const others = found.volumes.filter(v => !isFromInterruptedInit(v, known)).map(describe);
    if (others.length > 0) {
      const what = `the pool "${pool.path}" holds volumes that are not on record: ${others.join(', ')}`;
      const hint = (await hasOneToAdopt(on, pool)) ? REMEDY.recover : REMEDY.destroy;
      throw new MayflyError('refused', what, { pool: pool.path, hint });
    }
    for (const name of [...found.leftovers, ...found.discarded.map(d => d.name), ...found.spares.values()])
      await backend.sweep(pool.path, name);
    for (const v of found.volumes) {
      o.say(`removing leftovers of an earlier attempt: ${describe(v)}`);
      await backend.remove(v);
    }
    forgetAll(host, paths); // last: these records identify the leftovers

    const work = workOf(pool);
    await backend.create(work, sizesOf(on, o.lvm));
    await withMountedVolume(on, work, async tree => {
      host.rmdir(`${tree}/lost+found`); // created by mkfs; some sources need an empty directory
      o.say(`filling ${tree} from ${describeSource(o.source)}`);
      const how = { ...o, config: on.config, list: `${paths.run}/not-copied` };
      await fillTree(host, tree, how, [pool.path, paths.state, paths.run]);
      finishTree(host, tree, o.say);
      if (o.source.kind === 'host') {
        writeAccounts(host, '', tree, on.config);
        settleMissingNames(host, '', tree, o.say);
      }
    });

    const stray = [...(await backend.seals(pool.path)).keys()]; // of trees that were removed by hand
    const number = takeNumber(host, paths, stray);
    o.say(`sealing generation ${number}`);
    const what = { number, origin: describeSource(o.source) };
    const names = o.source.kind === 'host' ? 'of this host' : NONE_UNNAMED;
    const generation = await seal(on, pool, what, 'candidate', [lock.fd], {
      known: names,
      say: o.say,
    });
    await requireProof(on, generation, work, o.say);
    await makeMaster(on, pool);
    await acceptCandidate(on, number);
    await movePointer(on, { what: `the promotion of generation ${number}`, seconds: 30 }, point =>
      point(number),
    );
    await prepareSpare(on);
    o.say(`generation ${number} is stable`);
    return generation;
  });
  await writeHealth(on);
  await tryPublishSessions(on); // a display manager may already be enabled
  return made;
}

const describe = ({ role, name }: Volume): string => (role === name ? role : `${role} ${name}`);

/** Throws `refused` if there are proven generations or sessions: a missing stable pointer must not remove these. */
function refuseIfInUse({ host, paths }: Machine): void {
  const proven = generationNumbers(host, paths);
  if (proven.length > 0)
    throw new MayflyError(
      'refused',
      `no generation is stable, but there are complete generations: ${proven.join(', ')}`,
      { hint: REMEDY.rollback },
    );
  const sessions = sessionIds(host, paths);
  if (sessions.length > 0)
    throw new MayflyError('refused', `there are sessions: ${sessions.join(', ')}`, {
      hint: REMEDY.recover,
    });
}

/**
 * Whether a volume can only be a leftover of an interrupted `init` or `destroy`: a first generation that is not
 * proven, or a retired one. `unproven` holds the numbers of candidates and retired generations, `last` the number
 * that was assigned last: each attempt of `init` assigns only one. `sealed` holds the numbers of generations that have
 * passed their checks, by their seals, or may have: only the state is lost, and neither they nor master may go. Pure.
 */
export function isFromInterruptedInit(
  { role, name }: Pick<Volume, 'role' | 'name'>,
  {
    unproven,
    last,
    sealed,
  }: {
    readonly unproven: readonly number[];
    readonly last: number | undefined;
    readonly sealed: readonly number[];
  },
): boolean {
  if (role === 'work') return true;
  if (role === 'master' && sealed.length > 0) return false;
  if (role === 'generation' && sealed.includes(Number(name))) return false;
  if (role === 'master') return last === 1 || unproven.length > 0;
  return role === 'generation' && (unproven.includes(Number(name)) || (name === '1' && last === 1));
}

/**
 * Opens the pool on record, or creates one: on LVM, or the embedded default, a directory or an image file with btrfs.
 */
async function openOrMakePool(on: Machine, o: InitOptions): Promise<Pool> {
  const { host, paths, config } = on;
  const known = readPool(host, paths);
  dropHollow(host, known?.path ?? config.pool.path);
  if (known && known.backend !== o.backend) {
    throw new MayflyError('exists', `the pool "${known.path}" exists and its backend is ${known.backend}`, {
      path: known.path,
      hint: REMEDY.destroy,
    });
  }
  if (known) {
    await mountPool(on, known);
    await on.backend(known.backend).prepare(known.path, sizesOf(on, o.lvm));
    tagSessions(host, known.path);
    return known;
  }
  const lost = await findPool(on, o.lvm?.group);
  if (lost)
    throw new MayflyError('refused', `the record of the pool is lost; there is one at "${lost.path}"`, {
      path: lost.path,
      hint: REMEDY.recover,
    });
  if (o.backend === 'lvm-thin' || o.backend === 'lvm') return openLvmPool(on, o.backend, o.lvm ?? {}, o.say);
  const { path } = config.pool;
  makePoolDirectory(host, path, paths.state);
  let pool: Pool = { backend: o.backend, path };
  if (o.backend === 'btrfs' && (await fileSystemType(host, path)) !== 'btrfs') {
    const image = imagePath(paths);
    await makeImage(host, config, image, o.say);
    pool = { ...pool, image };
    writePool(host, paths, pool);
    await mountPool(on, pool);
  }
  const place = await mountPlace(host, path);
  const bad = o.backend === 'overlay' ? undefined : poolPlaceProblem(pool, place, config.overlay.upper);
  if (bad) throw new MayflyError('refused', bad.what, { path, hint: bad.fix });
  await on.backend(o.backend).prepare(path);
  tagSessions(host, path);
  if (o.backend === 'overlay') await tryOverlay(host, path, config.overlay);
  pool = await withMountPoint(host, pool);
  writePool(host, paths, pool);
  return pool;
}
