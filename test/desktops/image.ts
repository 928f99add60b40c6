/** What a machine has on which people use everything that makes a sandbox, on desktops of every kind. */
import { BASE } from '../desktop/machine.ts';

const PROGRAMS = [
  'podman,crun,uidmap,slirp4netns,fuse-overlayfs,fuse3,busybox-static,flatpak',
  'xdg-desktop-portal,xdg-desktop-portal-gtk,firefox-esr,chromium,epiphany-browser,dbus-x11',
];

/** Debian 12 has no locker of Xfce's own; Debian 13 has LXQt's part of xdg-open in a package of its own. */
const desktops = (suite: string): string[] => [
  'mate-session-manager,marco,mate-panel,mate-settings-daemon,mate-screensaver,caja,mate-terminal,mate-polkit',
  `xfce4-session,xfce4-panel,xfwm4,xfdesktop4,xfconf,xfce4-terminal,xfce4-notifyd${suite === 'bookworm' ? '' : ',xfce4-screensaver'},thunar,mousepad`,
  `sddm,lxqt-session,lxqt-panel,pcmanfm-qt,lxqt-themes,xss-lock,i3lock${suite === 'bookworm' ? '' : ',qtxdg-tools'}`,
  'greetd,swayidle,swaylock,grim,foot',
];

/** For what people do every day. */
const EVERYDAY = [
  'screen,tmux,ibus,im-config,cups-daemon,cups-client,cups-bsd,cron,at,openssh-client,openssh-server,sshfs,gnupg',
  'wireshark-common,libcap2-bin,iputils-ping,acl,systemd-coredump,squashfuse,squashfs-tools,inotify-tools',
  'texlive-base,texlive-binaries,pipewire,pipewire-pulse,wireplumber,pulseaudio-utils,libnotify-bin,xclip,mesa-utils',
  'gvfs,gvfs-fuse,gvfs-daemons,xdg-utils,xdg-user-dirs,man-db,locales,pkexec,python3,python3-venv,git,gdb,file,less',
  'bsdutils,util-linux,x11-xserver-utils,x11-xkb-utils,strace,nano,make,gcc,libc6-dev,zip,unzip,libpam-modules,eject',
];

/** The compositor of the Wayland session; Debian 12 has no labwc. */
const WAYLAND: Readonly<Record<string, string>> = { bookworm: 'sway', trixie: 'labwc' };

export const packagesOf = (suite: string): string =>
  [BASE, ...PROGRAMS, ...desktops(suite), ...EVERYDAY, WAYLAND[suite] ?? 'sway'].join(',');

export const waylandOf = (suite: string): string => WAYLAND[suite] ?? 'sway';
