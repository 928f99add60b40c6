/** What a machine has on which people use everything that makes a sandbox, on desktops of every kind. */
import { BASE } from '../desktop/machine.ts';

const PROGRAMS = [
  'podman,crun,uidmap,slirp4netns,fuse-overlayfs,fuse3,busybox-static,flatpak',
  'xdg-desktop-portal,xdg-desktop-portal-gtk,firefox-esr,chromium,epiphany-browser,dbus-x11',
];

const DESKTOPS = [
  'mate-session-manager,marco,mate-panel,mate-settings-daemon,mate-screensaver,caja,mate-terminal,mate-polkit',
  'sddm,lxqt-session,lxqt-panel,pcmanfm-qt,lxqt-themes,xss-lock,i3lock',
  'greetd,swayidle,swaylock,grim,foot',
];

/** The compositor of the Wayland session; Debian 12 has no labwc. */
const WAYLAND: Readonly<Record<string, string>> = { bookworm: 'sway', trixie: 'labwc' };

export const packagesOf = (suite: string): string =>
  [BASE, ...PROGRAMS, ...DESKTOPS, WAYLAND[suite] ?? 'sway'].join(',');

export const waylandOf = (suite: string): string => WAYLAND[suite] ?? 'sway';
