/**
 * The power is cut at random moments while people log in and out, updates are made and the time of day jumps. After the
 * next boot one recovery gives a sound state: stable has every byte it was sealed with, nothing is in the pool that is
 * not known, logins work.
 */
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { chance, count, LONG, SEED } from '../campaign.ts';
import { sleep, until } from '../system/lab.ts';
import { makeMiniTree } from '../system/mini.ts';
import { Uml } from './machine.ts';
import { BACKENDS, ONE_BACKEND } from './suite.ts';

const CUTS = count('CUTS', 3);
/** Where the pool is; those in a directory have it, and the state, on disks of their own. */
const KINDS: readonly string[] = process.env.MAYFLY_TEST_BACKENDS
  ? BACKENDS
  : LONG
    ? [...BACKENDS, 'overlay', 'btrfs', 'btrfs-disk']
    : [...ONE_BACKEND, SEED % 4 < 2 ? 'overlay' : 'btrfs'];
/** The longest time that is lived before a cut, in milliseconds. */
const LIFE = 8_000;
/** Every other cut comes at most so long after an update has ended: what it said to be done must be on the disk. */
const AFTER_UPDATE = 500;
/** For a boot and its recovery, in milliseconds; only proves "not for ever". */
const BOOT = 600_000;

describe.each(KINDS)('the power is cut on %s', backend => {
  const timeout = (CUTS + 2) * BOOT;
  it(`${CUTS} times, and each time all is sound after the next boot`, { timeout }, async () => {
    const title = `cuts on ${backend}`;
    const random = chance(title);
    const machine = new Uml(['6G', '4G']);
    const said = (): string =>
      fs.existsSync(machine.exchange('said')) ? fs.readFileSync(machine.exchange('said'), 'utf8') : '';
    try {
      makeMiniTree(machine.exchange('tree'));
      const made = await machine.boot(`sh test/lvm/life.sh ${backend} make\n`);
      expect(made.output + said()).toMatch(/ready\n$/);
      const lives: number[] = [];
      for (let i = 0; i <= CUTS; i++) {
        for (const name of ['said', 'updated']) fs.rmSync(machine.exchange(name), { force: true });
        const isUpdated = (): boolean => fs.existsSync(machine.exchange('updated'));
        const moment = random();
        const ended = machine.boot(`sh test/lvm/life.sh ${backend}\n`, (BOOT + LIFE) / 1000);
        await Promise.race([until(() => said() !== '', BOOT), ended]);
        if (said() !== 'ready\n') {
          machine.cutPower();
          const { output, console: kernel } = await ended;
          const when = `after cut ${i} of MAYFLY_SEED=${SEED}`;
          throw new Error(`${when}: ${said()}${output.slice(-3000)}${kernel.slice(-1000)}`);
        }
        const begun = performance.now();
        // An update takes minutes on LVM here, beside the logins; a short run does without.
        if (i % 2 === 1 && i < CUTS && (LONG || !backend.startsWith('lvm'))) {
          await Promise.race([until(isUpdated, BOOT / 10), ended]);
          expect(isUpdated(), `an update before cut ${i} of MAYFLY_SEED=${SEED}`).toBe(true);
          await sleep(moment * AFTER_UPDATE);
        } else await sleep(i === CUTS ? 0 : moment * LIFE);
        machine.cutPower();
        await ended;
        lives.push(Math.round(performance.now() - begun));
      }
      console.log(`${backend}: ${CUTS} cuts, after ${lives.slice(0, CUTS).join(', ')} ms of life`);
    } finally {
      machine.close();
    }
  });
});
