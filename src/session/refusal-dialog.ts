/**
 * Shows the reason of a refused login on the screen. lightdm returns to its greeter without a message, and its
 * greeter is gone while it waits for the hook; but the X server runs, and the hook gets its cookie.
 */
import { publicCodeOf, reasonOf } from '../errors.ts';
import type { User } from '../linux/accounts.ts';
import { onScreen, type Screen } from '../linux/display.ts';
import type { Host } from '../linux/host.ts';
import type { Login } from '../state/sessions.ts';

/** Seconds for which a message stays; lightdm waits that long with all its seats. */
const LIMIT = 20;

/**
 * The screen in the environment of a hook of lightdm; undefined if there is none, or if the values are not as lightdm
 * sets them. "nobody" shows the message. It must not be the person: their login is refused, the greeter returns on the
 * same X server, and whoever has its cookie can read the passwords that are typed there.
 */
export function screenOf(env: NodeJS.ProcessEnv): Screen | undefined {
  const { DISPLAY: display = '', XAUTHORITY: copyOf = '' } = env;
  // A directory in which only root can create files.
  return /^:[\d.]{1,8}$/.test(display) && /^(\/var)?\/run\/lightdm\/root\/:\d{1,5}$/.test(copyOf)
    ? { display, viewer: { copyOf } }
    : undefined;
}

/**
 * The screen of a live login; undefined if it has none. The person shows the message, with the cookie file that their
 * display manager gave them: a copy of root's could be that of another person who has the display by now.
 */
export function screenAt(
  host: Host,
  { adapter, display = '' }: Pick<Login, 'adapter' | 'display'>,
  { name, uid, gid, home }: User,
  group: string | undefined,
): Screen | undefined {
  if (!/^:[\d.]{1,8}$/.test(display)) return undefined;
  // Of lightdm's option user-authority-in-system-dir; the directory belongs to root.
  const own = `/run/lightdm/${name}`;
  const ofLightdm = host.lstat(own)?.kind === 'dir' ? `${own}/xauthority` : `${home}/.Xauthority`;
  const cookie = adapter === 'lightdm' ? ofLightdm : `/run/user/${uid}/gdm/Xauthority`;
  return { display, viewer: { uid, gid, cookie, group } };
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
 * Shows a message with zenity(1) or xmessage(1) until it is closed, for at most `seconds`. Returns at
 * once if neither is installed. With `background` it does not wait.
 */
export async function showDialog(
  host: Host,
  screen: Screen,
  title: string,
  text: string,
  background = false,
  seconds = LIMIT,
): Promise<void> {
  const kind = background ? '--warning' : '--error';
  const zenity = ['zenity', kind, '--no-markup', '--title', title, '--width', '480', '--text', text];
  const xmessage = ['xmessage', '-center', '-buttons', 'OK', '-title', title, text];
  for (const command of [zenity, xmessage]) {
    if (background && !host.exists(`/usr/bin/${command[0]}`)) continue; // its exit code is not seen
    const { code } = await host.run({ ...onScreen(screen, command, seconds), background });
    if (code !== 127) return; // 127: it is not installed
  }
}
