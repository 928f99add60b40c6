/** The record of a session: it pins the generation and states the intent. Written first, deleted last. */

import { deleteSession, writeSession } from '../../state/sessions.ts';
import type { Step } from './step.ts';

export const record: Step = {
  name: 'record',
  async up(s, { host, paths }) {
    return writeSession(host, paths, s);
  },
  async down(s, { host, paths }) {
    deleteSession(host, paths, s.id);
  },
};
