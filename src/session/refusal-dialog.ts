/**
 * Shows the reason of a refused login on the screen. lightdm returns to its greeter without a message, and its
 * greeter is gone while it waits for the hook; but the X server runs, and the hook gets its cookie.
 */
import { publicCodeOf, reasonOf } from '../errors.ts';
import type { Host } from '../linux/host.ts';

/** Seconds for which a message stays; lightdm waits that long with all its seats. */
const LIMIT = 20;

export interface Screen {
  readonly display: string;
  /** The X server's cookie file, root's. */
  readonly authority: string;
}

/**
 * The screen in the environment of a hook; undefined if there is none, or if the values are not as lightdm sets them.
 */
export function screenOf(env: NodeJS.ProcessEnv): Screen | undefined {
  const { DISPLAY: display = '', XAUTHORITY: authority = '' } = env;
  return /^:[\d.]{1,8}$/.test(display) && /^\/[\w./:-]+$/.test(authority)
    ? { display, authority }
    : undefined;
}

/**
 * The screen of a live login, found by the cookie file of its X server (lightdm's or gdm's); undefined if neither
 * exists.
 */
export function screenAt(host: Host, display: string, uid: number): Screen | undefined {
  const cookies = [`/run/lightdm/root/${display}`, `/run/user/${uid}/gdm/Xauthority`];
  const authority = cookies.find(path => host.exists(path));
  return authority === undefined ? undefined : screenOf({ DISPLAY: display, XAUTHORITY: authority });
}

/** The text for the user: the reason, and the code that the journal and `mayfly doctor` use. */
export function refusalText(error: unknown): string {
  return `Login failed: ${reasonOf(error)}.\n\nPlease give your administrator this code: ${publicCodeOf(error)}`;
}

/** Shows the reason of a refused login with {@link showDialog}. */
export async function showRefusal(host: Host, screen: Screen, error: unknown): Promise<void> {
  await showDialog(host, screen, 'Login failed', refusalText(error));
}

/**
 * Shows a message with zenity(1) or xmessage(1) until it is closed, for at most {@link LIMIT} seconds. Returns at
 * once if neither is installed. With `background` it does not wait.
 */
export async function showDialog(
  host: Host,
  screen: Screen,
  title: string,
  text: string,
  background = false,
): Promise<void> {
  // zenity: 1 when its window is closed, 5 when time is up. 124: timeout(1) ended it. 127: not installed.
  const zenity = ['zenity', '--error', '--no-markup', '--title', title, '--width', '480', '--text', text];
  const xmessage = ['xmessage', '-center', '-buttons', 'OK', '-title', title, text];
  for (const command of [zenity, xmessage]) {
    if (background && !host.exists(`/usr/bin/${command[0]}`)) continue; // its exit code is not seen
    const variables = [`DISPLAY=${screen.display}`, `XAUTHORITY=${screen.authority}`, 'HOME=/'];
    const args = [...variables, 'timeout', String(LIMIT), ...command];
    const okCodes = [0, 1, 5, 124, 127];
    const { code } = await host.run({ file: 'env', args, effect: 'write', okCodes, background });
    if (code !== 127) return;
  }
}
