/** The steps forwards. A failure runs them backwards. */
import { MayflyError, reasonOf } from '../errors.ts';
import { type Generation, isSealed } from '../state/generations.ts';
import { loginBlockReason } from '../state/login-block.ts';
import type { Machine } from '../state/machine.ts';
import { type Session, writeSession } from '../state/sessions.ts';
import { steps } from './steps.ts';
import { fieldsOf, stop, tryWriteRecord } from './teardown.ts';

/** Runs the steps forwards. A failure runs them backwards and says both reasons if that fails too. */
export async function runSteps(on: Machine, planned: Session, generation: Generation): Promise<Session> {
  let s = planned;
  try {
    for (const step of steps) {
      on.log('debug', `${s.id}: ${step.name}`, fieldsOf(s));
      s = await step.up(s, on);
      if (step === steps[0]) await verifyGeneration(on, s, generation);
    }
    return writeSession(on.host, on.paths, { ...s, state: 'live' });
  } catch (error) {
    if (error instanceof MayflyError && error.code === 'timeout') {
      // A storage command may still be at work: what it leaves is for `recover`, which waits for its lock.
      tryWriteRecord(on, { ...s, state: 'ending', stuck: reasonOf(error) });
      throw error;
    }
    await stop(on, s).catch(second => {
      on.log('err', `${s.id} is left for recovery: ${reasonOf(second)}`, fieldsOf(s));
    });
    throw error;
  }
}

/** The pin is written; is what it pins still there? (See state/generations.ts: who retires a generation looks after taking its file.) */
async function verifyGeneration(on: Machine, s: Session, generation: Generation): Promise<void> {
  const held = s.kind === 'login' ? loginBlockReason(on) : undefined;
  if (held !== undefined) throw new MayflyError('held', held);
  const identity = await on.backend(generation.volume.backend).identity(generation.volume);
  const sealed = isSealed(on.host, on.paths, generation.number);
  if (sealed && identity !== undefined && identity === generation.identity) return;
  const gone = identity === undefined ? 'its volume has vanished' : 'its volume was replaced';
  throw new MayflyError(
    'no-generation',
    `generation ${s.generation} can not be used: ${sealed ? gone : 'it was retired'}`,
    { generation: s.generation },
  );
}
