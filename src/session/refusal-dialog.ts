/**
 * A refused login has a reason on the screen. lightdm goes back to its greeter without a word, and its greeter is
 * gone while it waits for us; but its X server is there, and its cookie is given to the hook.
 */
import { publicCodeOf, reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';

/** Seconds for somebody to read it; lightdm waits that long, with all its seats. */
const LIMIT = 20;

export interface Screen {
  readonly display: string;
  /** The X server's cookie file, root's. */
  readonly authority: string;
}

/** The screen a hook was given; undefined where there is none, or the words are not what lightdm says. */
export function screenOf(env: NodeJS.ProcessEnv): Screen | undefined {
  const { DISPLAY: display = '', XAUTHORITY: authority = '' } = env;
  return /^:[\d.]{1,8}$/.test(display) && /^\/[\w./:-]+$/.test(authority)
    ? { display, authority }
    : undefined;
}

/** The screen of a login that is up, by the cookie file of its X server: lightdm's or gdm's. */
export function screenAt(host: Host, display: string, uid: number): Screen | undefined {
  const places = [`/run/lightdm/root/${display}`, `/run/user/${uid}/gdm/Xauthority`];
  const authority = places.find(path => host.exists(path));
  return authority === undefined ? undefined : screenOf({ DISPLAY: display, XAUTHORITY: authority });
}

/** What people read: the reason, and the code by which the journal and `mayfly doctor` know it. */
export function wordsFor(error: unknown): string {
  return `You can not be logged in now: ${reasonOf(error)}.\n\nPlease tell the people who look after this machine: ${publicCodeOf(error)}`;
}

export async function showRefusal(host: Host, screen: Screen, error: unknown): Promise<void> {
  await showWords(host, screen, 'Login not possible', wordsFor(error));
}

/** Shows it until it is read, or for {@link LIMIT} seconds. Where there is nothing to show it with, nobody waits. */
export async function showWords(
  host: Host,
  screen: Screen,
  title: string,
  text: string,
  background = false,
): Promise<void> {
  // zenity: 1 when its window is closed, 5 when time is up. 124: timeout(1) ended it. 127: not installed.
  const zenity = ['zenity', '--error', '--no-markup', '--title', title, '--width', '480', '--text', text];
  const xmessage = ['xmessage', '-center', '-buttons', 'OK', '-title', title, text];
  for (const words of [zenity, xmessage]) {
    if (background && !host.exists(`/usr/bin/${words[0]}`)) continue; // nobody hears of its failure
    const variables = [`DISPLAY=${screen.display}`, `XAUTHORITY=${screen.authority}`, 'HOME=/'];
    const args = [...variables, 'timeout', String(LIMIT), ...words];
    const expect = [0, 1, 5, 124, 127];
    const { code } = await host.run({ file: 'env', args, effect: 'write', okCodes: expect, background });
    if (code !== 127) return;
  }
}
