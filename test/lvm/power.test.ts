/**
 * The power is cut at random moments while people log in and out and updates are made. After the next boot one
 * recovery gives a sound state: stable whole, nothing in the pool that is not known, logins work.
 */
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { chance, count, SEED } from '../campaign.ts';
import { sleep, until } from '../system/lab.ts';
import { makeMiniTree } from '../system/mini.ts';
import { Uml } from './machine.ts';
import { BACKENDS } from './suite.ts';

const CUTS = count('CUTS', 2);
/** The longest time that is lived before a cut, in milliseconds. */
const LIFE = 8_000;
/** For a boot and its recovery, in milliseconds; only proves "not for ever". */
const BOOT = 600_000;

describe.each(BACKENDS)('the power is cut on %s', backend => {
  const timeout = (CUTS + 2) * BOOT;
  it(`${CUTS} times, and each time all is sound after the next boot`, { timeout }, async () => {
    const title = `cuts on ${backend}`;
    const random = chance(title);
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
        const life = random() * LIFE;
        const ended = machine.boot('sh test/lvm/life.sh\n', (BOOT + LIFE) / 1000);
        await Promise.race([until(() => said() !== '', BOOT), ended]);
        if (said() !== 'ready\n') {
          machine.cutPower();
          const { output, console: kernel } = await ended;
          const when = `after cut ${i} of MAYFLY_SEED=${SEED}`;
          throw new Error(`${when}: ${said()}${output.slice(-3000)}${kernel.slice(-1000)}`);
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
