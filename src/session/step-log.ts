/** What the steps of a login or logout log: whose they are, and how long each took. */
import type { Fields } from '../linux/log.ts';
import type { Stopwatch } from '../linux/stopwatch.ts';
import type { Machine } from '../state/machine.ts';
import type { Session } from '../state/sessions.ts';
import type { Step } from './steps/step.ts';

/** The fields of a line in the log that is about a session. */
export const fieldsOf = (s: Session): Fields => ({ session: s.id, user: s.user.name });

/** The machine for one step: whatever the step logs has the session and the step in its fields. */
export function machineFor(step: Step, s: Session, on: Machine): Machine {
  return { ...on, log: on.log.child({ ...fieldsOf(s), step: step.name }) };
}

/**
 * Logs how long each step took, in one line. The level is `info` for logins and `debug` for other sessions, which are
 * part of another command.
 */
export function logTimes(on: Machine, s: Session, step: string, message: string, watch: Stopwatch): void {
  watch.enter();
  const level = s.kind === 'login' ? 'info' : 'debug';
  on.log(level, `${s.id}: ${message} ${watch.words()}`, { ...fieldsOf(s), step });
}
