/** The paths of the host that sessions have by default. */

/**
 * A recursive bind mount copies every mount below it into every session, so only directories where mounts come and go
 * have one.
 */
export const DEFAULT_RBIND = ['/home', '/media', '/run/user'];

export const DEFAULT_BIND = [
  '/proc',
  '/sys',
  '/sys/fs/cgroup',
  '/dev',
  '/dev/pts',
  '/dev/shm',
  '/dev/mqueue',
  '/tmp',
  '/var/tmp',
  '/run/dbus',
  '/run/systemd/journal',
  '/run/systemd/users',
  '/run/systemd/sessions',
  '/run/systemd/seats',
  '/run/systemd/notify',
  '/run/systemd/userdb',
  '/run/systemd/resolve',
  '/run/log/journal',
  '/run/utmp',
  '/var/log/journal',
  '/var/lib/systemd/coredump',
  '/run/lock',
  '/run/udev',
  '/run/cups',
  '/run/pcscd',
  '/run/avahi-daemon',
  '/run/nscd',
  '/run/nslcd',
  '/run/samba/winbindd',
  '/run/.heim_org.h5l.kcm-socket',
  '/run/xrdp/sockdir', // the sound of a remote desktop
  '/var/lib/sss/pipes',
  '/var/lib/sss/pubconf',
];

/** What session/host-files.ts copies, and how. */
export const DEFAULT_COPY = [
  '/etc/hosts',
  '/etc/hostname',
  '/etc/machine-id',
  '/etc/resolv.conf',
  '/etc/localtime',
  '/etc/default/locale',
  '/etc/default/keyboard',
  '/etc/papersize',
  '/etc/krb5.conf',
  '/etc/cups/client.conf',
  '/etc/cups/lpoptions',
  '/usr/local/share/ca-certificates',
];
