/** The record of a session: the pin of its generation, and the intent. Written first, deleted last. */

import { deleteSession, writeSession } from '../../state/sessions.ts';
import type { Step } from './step.ts';

/** The record: the pin of the generation and the intent. Written first, deleted last. */
export const record: Step = {
  name: 'record',
  async up(s, { host, paths }) {
    return writeSession(host, paths, s);
  },
  async down(s, { host, paths }) {
    deleteSession(host, paths, s.id);
  },
};
