/**
 * A lab that cases share for as long as each leaves it as it found it. One that does not, or that fails, takes it
 * along: the next case gets a lab of its own.
 */
import { afterAll, afterEach, beforeEach, expect } from 'vitest';
import type { Lab } from '../../system/lab.ts';
import { GROUP } from './bench.ts';
import { abandon, clearGroup } from './devices.ts';

export const DISK = '/dev/ubdb';

interface Ground {
  readonly lab: Lab;
  /** Is done after the case, the last one first, also where it fails. */
  afterwards(act: () => unknown): void;
}

/** `make` fills an empty lab; `end` ends the sessions that a case may leave open. */
export function ground(open: () => Lab, make: (lab: Lab) => void, end: (lab: Lab) => void): Ground {
  let lab: Lab | undefined;
  let before: unknown;
  let acts: (() => unknown)[] = [];

  async function discard(): Promise<void> {
    if (lab !== undefined) await abandon(lab);
    lab = undefined;
    await clearGroup(GROUP, DISK);
  }

  beforeEach(async () => {
    if (lab !== undefined) return;
    lab = open();
    try {
      make(lab);
      before = lab.picture();
    } catch (error) {
      await discard();
      throw error;
    }
  });
  afterEach(async ({ task }) => {
    const wrong: unknown[] = [];
    const attempt = async (act: () => unknown): Promise<void> => {
      try {
        await act();
      } catch (error) {
        wrong.push(error);
      }
    };
    for (const act of acts.reverse()) await attempt(act);
    acts = [];
    if (lab === undefined) return;
    const used = lab;
    await attempt(() => end(used));
    await attempt(() => expect(used.picture()).toEqual(before));
    if (wrong.length === 0 && task.result?.state !== 'fail') return;
    await discard();
    if (wrong.length > 0) throw wrong[0];
  });
  afterAll(async () => {
    try {
      lab?.close();
    } catch (error) {
      await discard();
      throw error;
    }
  });

  return {
    get lab() {
      if (lab === undefined) throw new Error('there is a lab only while a case runs');
      return lab;
    },
    afterwards(act) {
      acts.push(act);
    },
  };
}
