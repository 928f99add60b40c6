/** Kills at random moments, and crowds. */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { chance, count, moments } from '../campaign.ts';
import { BACKENDS, forgetUsers, killTree, Lab, sleep, user } from './lab.ts';

const A = 'mayfly-a';
const B = 'mayfly-b';
/** Per backend and direction. */
const KILLS = count('KILLS', 8);
const CROWD = count('CROWD', 20);
const ROUNDS = count('ROUNDS', 3);
/** A whole crowd at a door takes its time on a busy machine. */
const PATIENT = '[hook]\ntimeout = 600\n';

describe.each(BACKENDS)('SIGKILL at random moments on %s', backend => {
  let lab: Lab;
  let before: Record<string, unknown>;
  /** How long a start and a stop take here, undisturbed; moments are drawn from that. */
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
      const random = chance(`kills of ${action} on ${backend}`);
      let killed = 0;
      let tries = 0;
      // A hook that was quicker than its kill is one more case, and another moment is drawn for the kill.
      for (const queue = moments(KILLS, random); queue.length > 0; tries++) {
        if (action === 'stop') {
          lab.hook('start', A);
          lab.linger(A, false, 'trap "" TERM; sleep 1000');
        }
        const after = (queue.pop() ?? 0) * span[action];
        const hook = lab.hookAsync(action, A);
        await sleep(after);
        killTree(hook.pid);
        const ended = await hook.done;
        if (ended.code === 255) killed += 1;
        else {
          span[action] = ended.ms;
          if (tries < 5 * KILLS) queue.push(random());
        }
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
        `${backend}: ${action} killed ${killed} times in the middle, ${tries - killed} times too late, state as before each time`,
      );
      expect(killed).toBe(KILLS);
    },
  );
});

describe('a crowd', () => {
  it.each(BACKENDS)(
    `${CROWD} people in and out at once, ${ROUNDS} rounds, on %s: no error, no leak`,
    async backend => {
      onTestFinished(forgetUsers);
      const people = Array.from({ length: CROWD }, (_, i) => user(`mayfly-crowd${i}`));
      const lab = Lab.make({ backend, config: PATIENT });
      onTestFinished(() => lab.close());
      lab.hook('start', people[0] ?? '');
      lab.hook('stop', people[0] ?? '');
      const before = lab.picture();
      let logins = 0;
      await Promise.all(
        people.map(async (name, i) => {
          for (let round = 0; round < ROUNDS; round++) {
            const started = await lab.hookAsync('start', name, `:${i}`).done;
            expect(started, `${name}, round ${round}`).toMatchObject({ code: 0, err: '' });
            logins += 1;
            expect(await lab.hookAsync('stop', name, `:${i}`).done, `${name}, round ${round}`).toMatchObject({
              code: 0,
              err: '',
            });
          }
        }),
      );
      expect(logins).toBe(CROWD * ROUNDS);
      expect(lab.picture()).toEqual(before);
    },
  );

  it.runIf(BACKENDS.includes('overlay'))('one person twenty times at once has one session', async () => {
    onTestFinished(forgetUsers);
    user(A);
    const lab = Lab.make({ backend: 'overlay', config: PATIENT });
    onTestFinished(() => lab.close());
    const all = await Promise.all(
      Array.from({ length: 20 }, (_, i) => lab.hookAsync('start', A, `:${i}`).done),
    );
    expect(all.map(r => r.code)).toEqual(all.map(() => 0));
    expect(lab.records()).toHaveLength(1);
    expect(lab.records()[0]?.logins).toHaveLength(20);
    await Promise.all(all.map((_, i) => lab.hookAsync('stop', A, `:${i}`).done));
    expect(lab.records()).toEqual([]);
  });
});
