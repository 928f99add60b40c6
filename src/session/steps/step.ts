/** One step of a login and, backwards, of a logout. */
import type { Machine } from '../../state/machine.ts';
import type { Session } from '../../state/sessions.ts';

export interface Step {
  readonly name: string;
  /** Returns the session with what the step found out. */
  up(s: Session, on: Machine): Promise<Session>;
  down(s: Session, on: Machine): Promise<void>;
}
