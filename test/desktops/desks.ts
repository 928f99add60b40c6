/** The desktops of a machine: how a person logs in to each, what shows that it is up, and how its screen is locked. */
import * as fs from 'node:fs';
import { choose, runs } from '../desktop/desk.ts';
import { typeAtGreetd } from '../desktop/greetd.ts';
import type { Machine } from '../desktop/machine.ts';
import type { Person } from '../desktop/workstation.ts';
import { waylandOf } from './image.ts';
import { typeAtSddm } from './sddm.ts';

export interface Desk {
  readonly name: string;
  readonly manager: 'lightdm' | 'sddm' | 'greetd';
  /** Of the desktop itself; a logout ends it. */
  readonly program: string;
  readonly wayland: boolean;
  /** Has what people do every day in its table, too. */
  readonly everyday: boolean;
  /** Commands of a shell: what is to listen for logind's word to lock, and whether the screen is locked. */
  readonly locker: string;
  readonly isLocked: string;
  logIn(lab: Machine, person: Person, mayfly: boolean): Promise<void>;
}

const atLightdm =
  (entry: string) =>
  async (lab: Machine, { name, password }: Person): Promise<void> => {
    await lab.greeter();
    await lab.name(name);
    await choose(lab, entry);
    lab.keys(password);
  };

/** A desktop without a lock of its own; light-locker needs virtual terminals. */
const XSS_LOCK = 'xss-lock -- i3lock --nofork';
const I3LOCK = 'pgrep -u "$(id -u)" -x i3lock';

const WRAPPER = '/usr/lib/mayfly/hooks/session-wrapper';
const SCREENLESS = 'WLR_BACKENDS=headless WLR_LIBINPUT_NO_DEVICES=1 WLR_RENDERER=pixman';

export function desksOf(suite: string): Desk[] {
  const compositor = waylandOf(suite);
  return [
    {
      name: 'openbox',
      manager: 'lightdm',
      program: 'openbox',
      wayland: false,
      everyday: false,
      locker: XSS_LOCK,
      isLocked: I3LOCK,
      logIn: atLightdm('Openbox'),
    },
    {
      name: 'MATE',
      manager: 'lightdm',
      program: 'mate-session',
      wayland: false,
      everyday: false,
      locker: 'mate-screensaver --no-daemon',
      isLocked: "mate-screensaver-command -q | grep -q 'is active'",
      logIn: atLightdm('MATE'),
    },
    {
      name: 'Xfce',
      manager: 'lightdm',
      program: 'xfce4-session',
      wayland: false,
      everyday: true,
      locker: XSS_LOCK,
      isLocked: I3LOCK,
      logIn: atLightdm('Xfce Session'),
    },
    {
      name: 'LXQt',
      manager: 'sddm',
      program: 'lxqt-session',
      wayland: false,
      everyday: true,
      locker: XSS_LOCK,
      isLocked: I3LOCK,
      logIn: typeAtSddm,
    },
    {
      name: compositor,
      manager: 'greetd',
      program: compositor,
      wayland: true,
      everyday: false,
      locker: "swayidle lock 'swaylock --daemonize'",
      isLocked: 'pgrep -u "$(id -u)" -x swaylock',
      logIn: async (lab, person, mayfly) =>
        typeAtGreetd(lab, person, `${mayfly ? `${WRAPPER} ` : ''}env ${SCREENLESS} ${compositor}`),
    },
  ];
}

/** A row of the table: the locker hears of logind's signal, from wherever it runs. */
export function lockRow({ locker, isLocked }: Desk): string {
  const name = locker.split(' ', 1)[0];
  return `pgrep -u "$(id -u)" -x '${name?.slice(0, 15)}' >/dev/null || setsid ${locker} >/dev/null 2>&1 &
    i=0
    until ${isLocked} >/dev/null 2>&1; do
      loginctl lock-session; i=$((i + 1)); [ $i -lt 60 ] || { echo 'it is not locked'; exit 1; }; sleep 0.5
    done
    loginctl unlock-session; pkill -u "$(id -u)" -x 'i3lock|swaylock'; true`;
}

/** Has every desktop run a script of the person's home when it starts. */
export function startWithDesktop(lab: Machine, { name }: Person, script: string): void {
  const home = `/home/${name}`;
  const write = (path: string, text: string): void => {
    fs.mkdirSync(lab.at(`${home}/${path}`).replace(/\/[^/]*$/, ''), { recursive: true });
    fs.writeFileSync(lab.at(`${home}/${path}`), text, { mode: 0o755 });
  };
  const bus = 'dbus-update-activation-environment --systemd WAYLAND_DISPLAY DISPLAY XDG_CURRENT_DESKTOP';
  write('bench.sh', script);
  write('.config/openbox/autostart', '~/bench.sh &\n');
  write('.config/labwc/autostart', `${bus}; ~/bench.sh &\n`);
  write('.config/sway/config', `exec ${bus}; exec ~/bench.sh\noutput * bg #204060 solid_color\n`);
  // It would ask at its first start.
  write('.config/lxqt/session.conf', '[General]\nwindow_manager=openbox\n');
  const entry = `[Desktop Entry]\nType=Application\nName=Bench\nExec=${home}/bench.sh\nOnlyShowIn=MATE;XFCE;LXQt;\n`;
  write('.config/autostart/bench.desktop', entry);
  lab.must('chown', '-R', `${name}:`, home);
}

export async function isUp(lab: Machine, person: Person, desk: Desk, mayfly: boolean): Promise<void> {
  await desk.logIn(lab, person, mayfly);
  await runs(lab, person, desk.program.slice(0, 15), 120_000);
}
