/** Writing the record of a session that ends, also where there is no room for it. */
import { isErrno, reasonOf } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import { recordPath, type Session, writeSession } from '../state/sessions.ts';

/** Writes a record if there is room. In a full file system the teardown must go on without it, because it frees space. */
export function tryWriteRecord(on: Machine, s: Session): Session {
  try {
    return writeSession(on.host, on.paths, s);
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS')) throw error;
    on.log('warning', `${s.id}: cannot write the record: ${reasonOf(error)}`, { session: s.id });
    if (s.state === 'ending') markEnding(on, s.id);
    return s;
  }
}

/**
 * Notes in place, which needs no room, that a session ends: if its teardown gets stuck, it would be live for ever, with nothing
 * left of it. Cut off in between, the record is corrupt, and then `recover` ends its session as well.
 */
function markEnding({ host, paths }: Machine, id: string): void {
  const path = recordPath(host, paths, id);
  const text = host.read(path) ?? '';
  const ending = text.replace('"state":"live"', '"state":"ending"');
  try {
    if (ending !== text) host.writeControlFile(path, ending);
  } catch (error) {
    if (!isErrno(error, 'ENOSPC', 'EDQUOT', 'EROFS')) throw error;
  }
}
