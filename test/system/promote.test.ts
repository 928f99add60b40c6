/**
 * A full room while generations are promoted, rolled back and collected: every login gets one whole generation, which
 * was stable at the time. How long logins wait beside updates is measured by `npm run bench`.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chance, count, generator } from '../campaign.ts';
import { BACKENDS, sh, sleep, until } from './lab.ts';
import { makeMiniTree } from './mini.ts';
import { Room } from './room.ts';

const PEOPLE = count('CROWD', 10);
const PROMOTIONS = count('PROMOTIONS', 4);
/** A rollback after every so many promotions, and the collector. */
const EACH = { rollback: 4, collection: 3 };
/** In user-mode Linux a whole Debian takes long to copy. */
const emulated = process.env.MAYFLY_TEST_VG !== undefined;

describe.each(BACKENDS)('a full room on %s, while generations are promoted', backend => {
  const rollbacks = Math.floor(PROMOTIONS / EACH.rollback);
  let room: Room;
  /** How long each person stays, in their own order. */
  let stays: (() => number)[];

  beforeAll(() => {
    const from = emulated ? makeMiniTree(`${fs.mkdtempSync('/var/lib/mayfly-test-tree-')}/tree`) : undefined;
    room = new Room({
      ...{ backend, people: PEOPLE, ...(from === undefined ? {} : { from }) },
      async stay(n, r) {
        const since = r.moved.length;
        // Some are in over several promotions. The others leave the machine a little time for the updates.
        const long = n % 5 === 0;
        const end = Date.now() + 500 + 6000 * (stays[n]?.() ?? 0);
        while (r.isOpen && (long ? r.moved.length < since + 3 : Date.now() < end)) await sleep(50);
      },
    });
    if (from !== undefined) fs.rmSync(from.slice(0, -'/tree'.length), { recursive: true });
  });
  afterAll(() => room.close());

  it(`${PEOPLE} people, ${PROMOTIONS} promotions, ${rollbacks} rollbacks, and the collector`, async () => {
    const random = chance(`a room on ${backend}`);
    stays = Array.from({ length: PEOPLE }, () => generator(random() * 2 ** 32));
    const visited = new Set<number>();
    await room.promote();
    room.open();
    for (let i = 1; i <= PROMOTIONS; i++) {
      // Mostly not before somebody has come in to the last one; now and then one follows upon the other.
      if (i === 1 || random() < 0.8) {
        visited.add(room.stable);
        await until(() => room.used.has(room.stable) || room.problems.length > 0, 60_000);
      }
      await room.promote();
      if (i % EACH.rollback === 0) await room.rollBack();
      if (i % EACH.collection === 0) await room.collect();
    }
    visited.add(room.stable);
    await until(() => room.used.has(room.stable) || room.problems.length > 0, 60_000);
    await room.empty();

    expect(room.problems).toEqual([]);
    expect(room.contradictions()).toEqual([]);
    expect(room.moved).toHaveLength(1 + PROMOTIONS + rollbacks);
    expect([...room.used]).toEqual(expect.arrayContaining([...visited]));
    console.log(`${backend}: ${room.seen.length} logins to ${room.used.size} generations`);
    expect(room.seen.length).toBeGreaterThanOrEqual(PEOPLE);
  });

  it('leaves nothing: no session, no generation too many, and the collector finds nothing more', () => {
    expect(room.lab.records()).toEqual([]);
    expect(room.lab.mayfly('gc')).toMatchObject({ code: 0 });
    expect(room.lab.mayfly('diff', '--files')).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^generation \d+ -> \d+\npackages: none\nfiles: .*\n {2}changed {2}\/\S+\n/),
    });
    const left = room.lab.inPool().generations;
    const known = fs.readdirSync(`${room.lab.dir}/state/generations`).filter(n => n.endsWith('.json'));
    expect(left.sort()).toEqual(known.map(n => n.replace('.json', '')).sort());
    // The newest three, and the one before them if no session of a newer one has lasted.
    expect(known.length).toBeLessThanOrEqual(4);
    expect(sh('ls', ['-A', `${room.lab.dir}/run/roots`]).out.trim()).toBe('work');
  });
});
