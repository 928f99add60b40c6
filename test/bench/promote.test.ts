/** How long logins of a full room take beside updates, and how long they could have to wait for a promotion. */
import { afterAll, describe, expect, it } from 'vitest';
import { sleep } from '../system/lab.ts';
import { Room } from '../system/room.ts';
import { quantile, rounds, tell } from './rows.ts';

const PEOPLE = 50;
const PROMOTIONS = rounds;
/** A rollback after every so many promotions. */
const EACH = 4;
/** People who stay over many promotions. */
const SLEEPERS = 5;

describe.each(['overlay', 'btrfs'] as const)('a full room on %s', backend => {
  // On btrfs an update takes less than a second; with a pause, so that it is not all promotions and no life between.
  const pause = backend === 'btrfs' ? 1500 : 0;
  let room: Room;
  afterAll(() => room.close());

  it(`${PEOPLE} people, without updates and beside ${PROMOTIONS} of them`, async () => {
    room = new Room({
      ...{ backend, people: PEOPLE },
      async stay(n, r) {
        // A room that leaves the machine a little time for the updates: some five logins and logouts a second.
        const stay = n < SLEEPERS ? 15_000 : 2000 + Math.random() * 16_000;
        for (const end = Date.now() + stay; r.isOpen && Date.now() < end; ) await sleep(200);
      },
    });
    const idle = await room.promote();
    room.open();
    await sleep(PEOPLE * 200);
    const quiet = Date.now();
    await sleep(40_000);
    const busy = Date.now();
    const sections: number[] = [];
    for (let i = 1; i <= PROMOTIONS; i++) {
      await sleep(pause);
      sections.push(await room.promote());
      if (i % EACH === 0) await room.rollBack();
      if (i % 3 === 0) await room.collect();
    }
    const over = Date.now();
    await room.empty();
    expect(room.problems).toEqual([]);

    const before = room.seen.filter(s => s.from >= quiet && s.to < busy).map(s => s.ms);
    const during = room.seen.filter(s => s.to >= busy && s.from <= over).map(s => s.ms);
    const detail = (ms: readonly number[], peer: readonly number[], q: number) => ({
      ms: Math.round(quantile(ms, q)),
      peer_ms: Math.round(quantile(peer, q)),
      rounds: ms.length,
    });
    const peer = 'without updates';
    for (const [metric, q, budget] of [
      ['p99 ratio', 0.99, 2],
      ['median ratio', 0.5, null],
    ] as const)
      tell({
        ...{ name: `promote-${backend}`, metric, peer, budget, detail: detail(during, before, q) },
        value: quantile(during, q) / quantile(before, q),
      });
    // It waits for nobody: less than the quickest login takes.
    const worst = Math.max(...sections);
    tell({
      ...{ name: `promote-${backend}`, metric: 'worst section', peer: 'quickest login', budget: 1 },
      value: worst / quantile(before, 0),
      detail: { ms: Math.round(worst), peer_ms: Math.round(quantile(before, 0)), idle: Math.round(idle) },
    });
    const seconds = (over - busy) / PROMOTIONS / 1000;
    tell({
      name: `promote-${backend}`,
      metric: 's per update',
      peer: '',
      budget: null,
      value: seconds,
      detail: {},
    });
  }, 3_600_000);
});
