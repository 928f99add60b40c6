/** The interface of one step of a login and, backwards, of a logout. */
import type { Machine } from '../../state/machine.ts';
import type { Session } from '../../state/sessions.ts';

export interface Step {
  readonly name: string;
  /** Does the step; returns the session with what the step adds to its record. */
  up(s: Session, on: Machine): Promise<Session>;
  /** Makes absent what `up` may have made; nothing there is success. */
  down(s: Session, on: Machine): Promise<void>;
}
