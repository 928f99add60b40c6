/**
 * Windows on a person's screen. Whoever owns a display decides what its clients do: GTK 3, for example, loads modules
 * from paths that the display names. So no process of root ever connects to a display, a session bus or a Wayland
 * socket. This file is the only one that gives a command the variables that lead to one, and always gives up root first;
 * `test/house.test.ts` and every command of `test/world.ts` are checked for this.
 */

import { constants } from 'node:fs';
import { MayflyError } from '../errors.ts';
import { type Command, O_TMPFILE, TOOL_PATH } from './command.ts';

/** The person whose screen it is. */
export interface Person {
  readonly uid: number;
  readonly gid: number;
  /** Their cookie file. They read it with their own rights: root does not look at it. */
  readonly cookie: string;
  /**
   * The control group for the processes of the window. They must not stay in root's: systemd trusts everything
   * in the group of a service.
   */
  readonly group?: string | undefined;
}

/** Who shows a window: an account without privileges, and how it gets the cookie of the X server. */
export type Viewer =
  | Person
  | {
      /** There is no person: "nobody" gets a copy of this file, which belongs to root. The copy has no name. */
      readonly copyOf: string;
    };

export interface Screen {
  readonly display: string;
  readonly viewer: Viewer;
}

/** The ID of the user and the group without rights. */
const NOBODY = 65534;

/** Seconds between SIGTERM and SIGKILL. The person can stop the window's processes, but not timeout(1), which is root's. */
const KILL_AFTER = 2;

/**
 * Run as root, without the variables of the display. It leaves root's terminal, joins the control group, and keeps
 * nothing open but the copy of the cookie, because the person can attach a debugger to the processes of the window. The
 * copy is an unnamed file that only "nobody" can open, and only for reading, so that it cannot be used to fill /run.
 */
const PREPARE = `use strict;
use POSIX ();
my ($cookie, $group) = splice @ARGV, 0, 2;
POSIX::setsid() > 0 or die "setsid: $!\\n";
if ($group ne "") {
	open my $procs, ">", "$group/cgroup.procs" or die "$group: $!\\n";
	print $procs $$;
	close $procs or die "$group: $!\\n";
}
my $last = 2;
my ($from, $copy, $read); # here, because a handle that goes out of scope would close descriptor 3
if ($cookie ne "") {
	open $from, "<:raw", $cookie or die "$cookie: $!\\n";
	sysopen $copy, "/run", ${O_TMPFILE | constants.O_RDWR}, 0400 or die "/run: $!\\n";
	syswrite $copy, do { local $/; <$from> } or die "/run: $!\\n";
	chown ${NOBODY}, ${NOBODY}, $copy or die "/run: $!\\n";
	open $read, "<", "/proc/self/fd/" . fileno $copy or die "/run: $!\\n";
	$^F = 3; # inherited
	$last = POSIX::dup2(fileno $read, 3) or die "dup2: $!\\n";
}
opendir my $all, "/proc/self/fd" or die "/proc: $!\\n";
my @open = grep { /^[0-9]+$/ && $_ > $last } readdir $all;
POSIX::close($_) for @open;
open STDERR, ">", "/dev/null";
exec { $ARGV[0] } @ARGV or exit 127;`;

/**
 * The command that runs `argv` on a screen for at most `seconds`. It runs as the viewer, without supplementary groups,
 * capabilities and the terminal, in an environment that holds nothing else than the display.
 */
export function onScreen(screen: Screen, argv: readonly string[], seconds: number): Command {
  const { display, viewer } = screen;
  const cookie = 'uid' in viewer ? viewer.cookie : '/proc/self/fd/3';
  return {
    ...asViewer(viewer, [`DISPLAY=${display}`, `XAUTHORITY=${cookie}`], argv, seconds),
    describe: () => [`show ${argv[0]} on ${display} as the user ID ${'uid' in viewer ? viewer.uid : NOBODY}`],
  };
}

/**
 * The command that has the desktop of a person show a notification, by their session bus: the way to a desktop that has
 * no X server. It runs as {@link onScreen} does, and fails without a word if nothing there shows notifications.
 */
export function onBus(person: Omit<Person, 'cookie'>, title: string, text: string): Command {
  const bus = `unix:path=/run/user/${person.uid}/bus`;
  const name = 'org.freedesktop.Notifications';
  const call = [name, `/${name.replaceAll('.', '/')}`, name, 'Notify', 'susssasa{sv}i'];
  // Until it is closed: urgency 2 (critical), no time limit.
  const values = ['Mayfly', '0', '', title, text, '0', '1', 'urgency', 'y', '2', '0'];
  const argv = ['busctl', `--address=${bus}`, '--timeout=5', 'call', '--', ...call, ...values];
  return {
    ...asViewer({ ...person, cookie: '' }, [], argv, 10),
    describe: () => [`notify the user ID ${person.uid}`],
  };
}

function asViewer(
  viewer: Viewer,
  variables: readonly string[],
  argv: readonly string[],
  seconds: number,
): Omit<Command, 'describe'> {
  const isPerson = 'uid' in viewer;
  const { uid, gid } = isPerson ? viewer : { uid: NOBODY, gid: NOBODY };
  // Also false if a damaged record has no number.
  if (!(Number.isInteger(uid) && uid > 0 && Number.isInteger(gid)))
    throw new MayflyError('unsafe', 'refused to open a window as root', { uid, gid });
  const drop = ['setpriv', '--reuid', String(uid), '--regid', String(gid), '--clear-groups'];
  const caps = ['--inh-caps', '-all', '--bounding-set', '-all', '--no-new-privs', '--'];
  const clean = ['env', '-i', `PATH=${TOOL_PATH}`, 'LC_ALL=C.UTF-8', 'HOME=/'];
  const prepared = isPerson ? ['', viewer.group ?? ''] : [viewer.copyOf, ''];
  const limit = ['timeout', '-k', String(KILL_AFTER), String(seconds)];
  return {
    file: 'perl',
    args: [
      ...['-e', PREPARE, '--', ...prepared],
      ...[...limit, ...drop, ...caps, ...clean, ...variables, ...argv],
    ],
    effect: 'write',
    okCodes: [...Array(256).keys()], // the person can make it end with any
  };
}
