/** Kills at random moments, and crowds. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, forgetUsers, killTree, Lab, sleep, user } from './lab.ts';

const A = 'mayfly-a';
const B = 'mayfly-b';
/** Kills per backend and direction; together 200 of each backend. */
const KILLS = Number(process.env.MAYFLY_TEST_KILLS ?? 100);
const CROWD = 20;
const ROUNDS = Number(process.env.MAYFLY_TEST_ROUNDS ?? 50);

describe.each(BACKENDS)('SIGKILL at random moments on %s', backend => {
  let lab: Lab;
  let before: Record<string, unknown>;
  /** How long a start and a stop take here, undisturbed; moments are drawn from a little more than that. */
  const span = { start: 0, stop: 0 };

  beforeAll(async () => {
    user(A);
    user(B);
    lab = Lab.make({ backend });
    lab.hook('start', B, ':9');
    for (let i = 0; i < 4; i++) {
      span.start = (await lab.hookAsync('start', A).done).ms; // the first ones make what is made once
      span.stop = (await lab.hookAsync('stop', A).done).ms;
    }
    before = lab.picture();
  });
  afterAll(() => {
    lab.hook('stop', B, ':9');
    lab.close();
    forgetUsers();
  });

  it.each(['start', 'stop'] as const)(
    `of %s, ${KILLS} times: one recover gives the state before, and the neighbour lives`,
    async action => {
      let killed = 0;
      for (let i = 0; i < KILLS; i++) {
        if (action === 'stop') {
          lab.hook('start', A);
          lab.linger(A, false, 'trap "" TERM; sleep 1000');
        }
        const after = Math.random() * span[action] * 1.2;
        const hook = lab.hookAsync(action, A);
        await sleep(after);
        killTree(hook.pid);
        if ((await hook.done).code === 255) killed += 1;
        // What reality does next: the machine comes up again and recovers. A login that had succeeded is ended by its
        // logout; one whose end had begun is not resumed.
        const r = lab.mayfly('recover');
        expect(r, `killed ${action} after ${after.toFixed(1)} ms`).toMatchObject({ code: 0 });
        if (lab.session(A)) expect(lab.hook('stop', A)).toMatchObject({ code: 0 });
        expect(lab.picture(), `killed ${action} after ${after.toFixed(1)} ms; recover: ${r.out}`).toEqual(
          before,
        );
        expect(lab.inside(B, 'true').code, 'the neighbour').toBe(0);
      }
      console.log(
        `${backend}: ${action} killed ${killed} of ${KILLS} times in the middle, state as before each time`,
      );
      // Of a few, chance may spare any.
      if (KILLS >= 50) expect(killed).toBeGreaterThan(KILLS / 3);
    },
  );
});

describe('a crowd', () => {
  it.each(BACKENDS)(
    `${CROWD} people in and out at once, ${ROUNDS} rounds, on %s: no error, no leak`,
    async backend => {
      const people = Array.from({ length: CROWD }, (_, i) => user(`mayfly-crowd${i}`));
      const lab = Lab.make({ backend });
      lab.hook('start', people[0] ?? '');
      lab.hook('stop', people[0] ?? '');
      const before = lab.picture();
      const times: number[] = [];
      await Promise.all(
        people.map(async (name, i) => {
          for (let round = 0; round < ROUNDS; round++) {
            const started = await lab.hookAsync('start', name, `:${i}`).done;
            expect(started, `${name}, round ${round}`).toMatchObject({ code: 0, err: '' });
            times.push(started.ms);
            expect(await lab.hookAsync('stop', name, `:${i}`).done, `${name}, round ${round}`).toMatchObject({
              code: 0,
              err: '',
            });
          }
        }),
      );
      times.sort((a, b) => a - b);
      const at = (q: number): string => (times[Math.floor(times.length * q)] ?? 0).toFixed(0);
      console.log(`${backend}: ${times.length} logins, median ${at(0.5)} ms, p99 ${at(0.99)} ms`);
      expect(times).toHaveLength(CROWD * ROUNDS);
      expect(lab.picture()).toEqual(before);
      lab.close();
      forgetUsers();
    },
  );

  it.runIf(BACKENDS.includes('overlay'))('one person twenty times at once has one session', async () => {
    user(A);
    const lab = Lab.make({ backend: 'overlay' });
    const all = await Promise.all(
      Array.from({ length: 20 }, (_, i) => lab.hookAsync('start', A, `:${i}`).done),
    );
    expect(all.map(r => r.code)).toEqual(all.map(() => 0));
    expect(lab.records()).toHaveLength(1);
    expect(lab.records()[0]?.logins).toHaveLength(20);
    await Promise.all(all.map((_, i) => lab.hookAsync('stop', A, `:${i}`).done));
    expect(lab.records()).toEqual([]);
    lab.close();
    forgetUsers();
  });
});
