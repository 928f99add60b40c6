/** An end that the person is told of before it happens. */
import type { Machine } from '../state/machine.ts';
import { readSession, type Session } from '../state/sessions.ts';
import { showMessage } from './message.ts';

/** How long before the end the person is told again, in milliseconds; not if the whole time is less than twice that. */
const REMINDER = 60_000;

/** How often to look whether the session is over, in milliseconds. */
const LOOK = 1000;

const TITLE = 'This session ends soon';

const REQUEST = 'Please save your work to your home directory and log out.';

/** The time of day on this machine, as "14:05". */
const timeOfDay = (epoch: number): string => new Date(epoch).toTimeString().slice(0, 5);

/** What the person is told: the words of the administrator, if there are any, and always until when. Pure. */
export const announcement = (words: string | undefined, at: number): string =>
  `${words === undefined ? '' : `${words}\n\n`}This session will be ended at ${timeOfDay(at)}. ${REQUEST}`;

/**
 * Tells the person that their session will be ended in `ms` milliseconds, tells them again a minute before, and waits.
 * Returns false if the session has ended by itself meanwhile.
 */
export async function announceEnd(
  on: Machine,
  s: Session,
  ms: number,
  words: string | undefined,
): Promise<boolean> {
  const { host, paths, log } = on;
  const end = host.monotonic() + ms;
  const text = announcement(words, host.now() + ms);
  const tell = (): Promise<void> =>
    showMessage(on, s, TITLE, text, Math.max(1, Math.ceil((end - host.monotonic()) / 1000)));
  log(
    'notice',
    `${s.id} of ${s.user.name} will be ended at ${timeOfDay(host.now() + ms)}; the user is told`,
    {
      session: s.id,
      user: s.user.name,
    },
  );
  await tell();
  let isReminded = ms < 2 * REMINDER;
  for (;;) {
    const left = end - host.monotonic();
    if (left <= 0) return true;
    if (!isReminded && left <= REMINDER) {
      isReminded = true;
      await tell();
    }
    await host.sleep(Math.min(left, LOOK));
    if (!readSession(host, paths, s.id)) return false;
  }
}
