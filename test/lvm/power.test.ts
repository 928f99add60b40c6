/**
 * The power is cut at random moments while people log in and out and updates are made. After the next boot one
 * recovery gives a sound state: stable whole, nothing in the pool that is not known, logins work.
 */
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { sleep, until } from '../system/lab.ts';
import { makeMiniTree } from '../system/mini.ts';
import { Uml } from './machine.ts';

const CUTS = Number(process.env.MAYFLY_TEST_ROUNDS ?? 3);
/** The longest time that is lived before a cut, in milliseconds. */
const LIFE = 8_000;

const BACKENDS = (process.env.MAYFLY_TEST_BACKENDS ?? 'lvm-thin,lvm').split(',');

describe.each(BACKENDS)('the power is cut on %s', backend => {
  it(`${CUTS} times, and each time all is sound after the next boot`, async () => {
    const machine = new Uml(['6G']);
    const said = (): string =>
      fs.existsSync(machine.exchange('said')) ? fs.readFileSync(machine.exchange('said'), 'utf8') : '';
    try {
      makeMiniTree(machine.exchange('tree'));
      const made = await machine.boot(`sh test/lvm/life.sh ${backend}\n`);
      expect(made.output + said()).toMatch(/ready\n$/);
      const generations: number[] = [];
      for (let i = 0; i <= CUTS; i++) {
        fs.rmSync(machine.exchange('said'), { force: true });
        const life = Math.random() * LIFE;
        const ended = machine.boot('sh test/lvm/life.sh\n');
        await Promise.race([until(() => said() !== '', 600_000), ended]);
        if (said() !== 'ready\n') {
          machine.cutPower();
          const { output, console: kernel } = await ended;
          throw new Error(`after cut ${i}: ${said()}${output.slice(-3000)}${kernel.slice(-1000)}`);
        }
        await sleep(i === CUTS ? 0 : life);
        machine.cutPower();
        await ended;
        generations.push(Math.round(life));
      }
      console.log(`${backend}: ${CUTS} cuts, after ${generations.slice(0, CUTS).join(', ')} ms of life`);
    } finally {
      machine.close();
    }
  });
});
