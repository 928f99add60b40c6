/**
 * A lab workstation: a stock Debian with a real systemd, logind, lightdm and its greeter, booted in a container. Its
 * screen is Xvfb; people are keystrokes. What is shown is kept in test/artefacts.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { sharedPackage } from '../system/build-package.ts';
import { must, type Ran, sh, sleep, tarball, until } from '../system/lab.ts';
import { ARTEFACTS, type Person, Workstation } from './workstation.ts';

export const BASE = [
  'systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,polkitd,procps,psmisc,sudo,passwd,perl',
  'lightdm,lightdm-gtk-greeter,adwaita-icon-theme,fonts-dejavu-core,openbox,xterm,zenity,x11-utils,xauth',
  'xvfb,xdotool,imagemagick,busybox-static,nodejs,schroot,e2fsprogs',
].join(',');

/** And with whole desktops, Wayland, and another display manager. */
const PACKAGES = [
  BASE,
  'xfce4-session,xfce4-panel,xfwm4,xfdesktop4,xfconf',
  'libnotify-bin,xfce4-notifyd,weston,greetd,btrfs-progs,mmdebstrap,cron,openssh-server,openssh-client',
].join(',');

/** lightdm's words in its log when it has the greeter ask for a name or a password. */
const PROMPT = 'Prompt greeter';

/** lightdm says to its X server what Xorg understands; this passes on what Xvfb does. */
const X_SERVER = `#!/bin/sh
set -- "$@" ''
display= auth=
while [ -n "$1" ]; do
	case $1 in
	:*) display=$1 ;;
	-auth) auth=$2; shift ;;
	esac
	shift
done
exec Xvfb "$display" -auth "$auth" -screen 0 1024x768x24 -nolisten tcp
`;

/**
 * Without virtual terminals logind has no graphical seat, and refuses the terminal that lightdm names (XDG_VTNR).
 */
const LIGHTDM = `[LightDM]
minimum-display-number=0
logind-check-graphical=false
[Seat:*]
xserver-command=/usr/local/bin/xvfb-server
user-session=openbox
`;

export class Machine extends Workstation {
  readonly dir: string;
  #container: ChildProcess | undefined;
  #leader = 0;

  private constructor(dir: string) {
    super();
    this.dir = dir;
  }

  /** A machine as it is after the Debian installer, with these people, not booted. */
  static make(people: readonly Person[], packages = PACKAGES, suite?: string): Machine {
    const dir = fs.mkdtempSync('/var/lib/mayfly-test-');
    const machine = new Machine(dir);
    fs.mkdirSync(machine.root);
    must('tar', ['-xf', tarball('desktop', packages, suite), '--exclude=./dev/*', '-C', machine.root]);
    fs.copyFileSync(sharedPackage(), machine.at('/root/mayfly.deb'));
    fs.writeFileSync(machine.at('/usr/local/bin/xvfb-server'), X_SERVER, { mode: 0o755 });
    fs.mkdirSync(machine.at('/etc/lightdm/lightdm.conf.d'), { recursive: true });
    fs.writeFileSync(machine.at('/etc/lightdm/lightdm.conf.d/10-bench.conf'), LIGHTDM);
    // Its menu of desktops is where `choose` looks for it.
    fs.writeFileSync(machine.at('/etc/lightdm/lightdm-gtk-greeter.conf'), '[greeter]\nindicators=~session\n');
    // As udev makes it, which does not run in a container.
    fs.writeFileSync(machine.at('/etc/tmpfiles.d/fuse.conf'), 'c /dev/fuse 0666 root root - 10:229\n');
    fs.appendFileSync(machine.at('/etc/environment'), 'XDG_VTNR=0\n');
    // Both want to be the display manager; the packages' scripts decide by the order of their installation.
    if (packages.includes('greetd'))
      must('systemctl', ['--root', machine.root, '--quiet', 'disable', 'greetd.service']);
    must('systemctl', ['--root', machine.root, '--quiet', '--force', 'enable', 'lightdm.service']);
    // So many restarts within seconds are not what a person sees.
    fs.mkdirSync(machine.at('/etc/systemd/system/lightdm.service.d'));
    fs.writeFileSync(
      machine.at('/etc/systemd/system/lightdm.service.d/bench.conf'),
      '[Unit]\nStartLimitIntervalSec=0\n',
    );
    fs.writeFileSync(machine.at('/etc/hostname'), 'labmachine\n');
    fs.writeFileSync(machine.at('/etc/hosts'), '127.0.0.1 localhost\n127.0.1.1 labmachine\n');
    for (const p of people) {
      must('chroot', [machine.root, 'useradd', '-m', '-s', '/bin/bash', p.name]);
      const set = sh('chroot', [machine.root, 'chpasswd'], {
        input: Buffer.from(`${p.name}:${p.password}\n`),
      });
      if (set.code !== 0) throw new Error(`chpasswd: ${set.err}`);
    }
    return machine;
  }

  get root(): string {
    return `${this.dir}/machine`;
  }

  /** A path of the machine's disk, from here. */
  at(path: string): string {
    return this.root + path;
  }

  /** Waits for the greeter, too. */
  override async boot(): Promise<void> {
    const devices = ['/dev/loop-control', '/dev/btrfs-control', ...loops()].filter(d => fs.existsSync(d));
    // Machines that run at the same time would share their control groups, of which some have the same names: user-1000.
    const groups = groupsFor(this.dir);
    for (const path of groups) fs.mkdirSync(path, { recursive: true });
    const enter = groups.map(path => `echo $$ >${path}/cgroup.procs; `).join('');
    const child = spawn(
      'sh',
      [
        ...['-c', `${enter}exec systemd-nspawn "$@"`, 'sh'],
        `--directory=${this.root}`,
        `--machine=${this.dir.replace(/.*\//, '')}`,
        '--boot',
        '--register=no',
        '--keep-unit',
        '--capability=all',
        '--system-call-filter=@keyring', // containers in it have keyrings
        '--resolv-conf=off',
        '--private-network',
        '--console=pipe',
        ...devices.map(d => `--bind=${d}`),
      ],
      {
        stdio: ['ignore', 'ignore', 'ignore'],
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1' },
      },
    );
    this.#container = child;
    await until(() => {
      this.#leader = firstProcess(child.pid ?? 0);
      return this.#leader > 0;
    });
    await until(() => /^(runn|degr)/.test(this.run('systemctl', 'is-system-running').out), 60_000);
    await this.greeter();
  }

  /**
   * Waits until the greeter takes keys. The screen is looked at only once lightdm is connected to it: whoever looks
   * before is the X server's last client to go, at which it begins anew, and lightdm waits for it for ever.
   */
  async greeter(): Promise<void> {
    await until(() => this.run('pgrep', '-x', 'lightdm-gtk-gre').code === 0, 30_000);
    const isSeen = () => this.x('xdotool', 'search', '--onlyvisible', '--class', 'lightdm').out !== '';
    await until(isSeen, 30_000);
    await until(() => this.#log().lastIndexOf(PROMPT) > this.#log().lastIndexOf('Greeter connected'), 30_000);
    // It takes the keyboard a little later than it is seen. Windows of one program differ in their last 21 bits alone.
    const program = (...words: string[]): number =>
      Math.floor(Number(this.x('xdotool', ...words).out) / 2 ** 21);
    const hasKeyboard = (): boolean =>
      program('getwindowfocus') === program('search', '--onlyvisible', '--class', 'lightdm');
    await until(hasKeyboard, 30_000);
    await this.settle();
  }

  /** Lets the screen do what nothing tells of, such as which field has the keyboard: many times what a look at it takes. */
  async settle(): Promise<void> {
    const begun = performance.now();
    this.x('xdotool', 'getwindowfocus');
    await sleep(Math.max(300, 10 * (performance.now() - begun)));
  }

  override run(...command: string[]): Ran {
    const enter = ['-t', String(this.#leader), '-m', '-u', '-i', '-n', '-p', '-C'];
    const env = ['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C.UTF-8'];
    return sh('timeout', ['-k', '5', '900', 'nsenter', ...enter, ...env, ...command]);
  }

  /**
   * A program on the screen, whoever it belongs to. A lightdm that is started while the X server of the one before is
   * just going away takes the next display.
   */
  x(...command: string[]): Ran {
    const server = this.run('pgrep', '-n', '-a', '-x', 'Xvfb').out;
    const [, display = ':0', auth = ''] = /Xvfb (:\d+) .*-auth (\S+)/.exec(server) ?? [];
    return this.run('env', `DISPLAY=${display}`, `XAUTHORITY=${auth}`, ...command);
  }

  /** Types a name and a password at the greeter. */
  async logIn(p: Person): Promise<void> {
    await this.name(p.name);
    this.keys(p.password);
  }

  /** Types a name at the greeter, and waits until it asks for the password. */
  async name(text: string): Promise<void> {
    const asked = () => this.#log().split(PROMPT).length;
    const before = asked();
    this.keys(text);
    await until(() => asked() > before, 30_000);
    await this.settle(); // its next field has the keyboard
  }

  /** Types a wrong password, and waits until the greeter asks again; pam_unix takes its time. */
  async mistype(name: string): Promise<void> {
    await this.name(name);
    const asked = () => this.#log().split(PROMPT).length;
    const before = asked();
    this.keys('no');
    await until(() => asked() > before, 30_000);
    await this.settle();
  }

  /** Types a line. */
  keys(text: string): void {
    this.x('xdotool', 'type', '--delay', '20', text);
    this.x('xdotool', 'key', 'Return');
  }

  /** What this lightdm has logged since it was started. */
  #log(): string {
    return fs.readFileSync(this.at('/var/log/lightdm/lightdm.log'), 'utf8');
  }

  override shot(name: string): void {
    fs.mkdirSync(ARTEFACTS, { recursive: true });
    this.x('import', '-window', 'root', '/root/shot.png');
    fs.copyFileSync(this.at('/root/shot.png'), `${ARTEFACTS}/${name}.png`);
  }

  override async off(how: 'orderly' | 'plug' = 'orderly'): Promise<void> {
    const child = this.#container;
    if (!child) return;
    if (how === 'orderly') this.run('systemctl', 'poweroff');
    else process.kill(this.#leader, 'SIGKILL'); // the first process of the namespace takes all others along
    await until(() => child.exitCode !== null || child.signalCode !== null, 60_000);
    this.#container = undefined;
  }

  /** Takes it away; throws where anything of it is left. */
  async close(): Promise<void> {
    if (this.#container) await this.off('plug');
    for (const loop of loopsOf(this.dir)) sh('losetup', ['-d', loop]);
    const left = fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(l => l.includes(`${this.dir}/`));
    if (left.length > 0) throw new Error(`mounts are left: ${left.join('\n')}`);
    for (const path of groupsFor(this.dir))
      sh('find', [path, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';']);
    // The pool in it may hold files that people made immutable; --one-file-system as there may be subvolumes.
    must('rm', ['-r', '--one-file-system', this.dir]);
  }
}

/** The control groups of a machine: in the hierarchy of version 2, and in systemd's own if it has another one. */
const groupsFor = (dir: string): string[] =>
  (fs.existsSync('/sys/fs/cgroup/unified') ? ['unified/', 'systemd/'] : [''])
    .filter(name => fs.existsSync(`/sys/fs/cgroup/${name}cgroup.procs`))
    .map(name => `/sys/fs/cgroup/${name}${dir.replace(/.*\//, '')}`);

/** The machine's process 1, as seen from here; 0 while it is not there: nspawn has other children on the way to it. */
function firstProcess(nspawn: number): number {
  const children = sh('pgrep', ['-P', String(nspawn)])
    .out.split('\n')
    .filter(Boolean);
  const first = children.find(
    pid =>
      sh('cat', [`/proc/${pid}/comm`]).out === 'systemd\n' &&
      /^NSpid:\t\d+\t1$/m.test(sh('cat', [`/proc/${pid}/status`]).out),
  );
  return Number(first ?? 0);
}

const loops = (): string[] =>
  fs
    .readdirSync('/dev')
    .filter(n => /^loop\d+$/.test(n))
    .map(n => `/dev/${n}`);

const loopsOf = (dir: string): string[] =>
  sh('losetup', ['-n', '-l', '-O', 'NAME,BACK-FILE'])
    .out.split('\n')
    .filter(l => l.includes(dir))
    .map(l => l.trim().split(/\s+/)[0] ?? '');
