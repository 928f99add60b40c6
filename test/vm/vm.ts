/**
 * A lab workstation in a virtual machine: with virtual terminals, a graphics card, a keyboard, a mouse and so what a
 * container lacks, gdm and switching between people. Without acceleration it is some ten times slower than a real one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import * as fs from 'node:fs';
import { ARTEFACTS, type Person, Workstation } from '../desktop/workstation.ts';
import { must, type Ran, sh, sleep, until } from '../system/lab.ts';
import { makeDisk } from './image.ts';

/** Sends a line to a socket and prints the line that has the same id; the connection is for this one alone. */
const ASK = `
use IO::Socket::UNIX;
my ($path, $limit, $id, @lines) = @ARGV;
alarm $limit;
my $s = IO::Socket::UNIX->new(Peer => $path) or die "$path: $!\\n";
print $s "$_\\n" for @lines;
while (my $line = <$s>) { if (index($line, $id) >= 0) { print $line; exit } }
die "$path: hung up\\n"`;

/** What a key is called by qemu; letters and digits are called by themselves. */
const KEYS: Readonly<Record<string, string>> = {
  ' ': 'spc',
  '-': 'minus',
  '.': 'dot',
  '/': 'slash',
  '\n': 'ret',
};

/**
 * Only a processor that says it can is asked to accelerate: there are machines with /dev/kvm on which nothing boots with
 * it. Where qemu can not have it, it goes on without.
 */
const ACCELERATED = /^flags\b.* (svm|vmx)\b/m.test(fs.readFileSync('/proc/cpuinfo', 'utf8'));

/** The processor has no AVX: with it the software renderer of gnome-shell crashes under emulation. */
const QEMU = `
  ${ACCELERATED ? '-accel kvm' : ''} -accel tcg,thread=multi -machine q35 -cpu Nehalem -smp 2 -m 4096
  -nodefaults -display none -device VGA,xres=800,yres=600 -device virtio-keyboard-pci -device virtio-tablet-pci
  -device virtio-rng-pci -device virtio-serial-pci -device virtserialport,chardev=bench,name=bench`;

/** The timer's check fails where the host has other work, and the kernel gives up. */
const KERNEL =
  'root=/dev/vda rw quiet console=ttyS0 systemd.show_status=0 mitigations=off audit=0 no_timer_check';

type Manager = 'gdm3' | 'lightdm';

export class Vm extends Workstation {
  readonly dir: string;
  readonly manager: Manager;
  #qemu: ChildProcess | undefined;

  private constructor(dir: string, manager: Manager) {
    super();
    this.dir = dir;
    this.manager = manager;
  }

  /** A machine with these people, on which Mayfly is installed and has a generation, switched off. */
  static make(people: readonly Person[], manager: Manager, suite?: string): Vm {
    const began = Date.now();
    const vm = new Vm(fs.mkdtempSync('/var/tmp/mayfly-vm-'), manager);
    makeDisk(vm.dir, people, manager, suite);
    const backing = `backing_file=${vm.dir}/disk,backing_fmt=raw`;
    must('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', backing, `${vm.dir}/disk.qcow2`]);
    console.log(`disk: ${seconds(began)} s`);
    return vm;
  }

  /** Switches it on, for the first time, and enables Mayfly; returns what /etc was before. */
  async withMayfly(): Promise<string> {
    await this.boot();
    this.must('systemctl', '--quiet', 'set-default', 'graphical.target');
    const before = this.configuration();
    console.log(this.must('mayfly', 'enable', this.manager === 'gdm3' ? 'gdm' : this.manager));
    this.must('systemctl', '--no-block', 'isolate', 'graphical.target');
    return before;
  }

  /** Waits until it takes commands, too. */
  override async boot(): Promise<void> {
    const began = Date.now();
    this.start();
    await this.isUp();
    console.log(`boot: ${seconds(began)} s`);
  }

  private start(): void {
    const { dir } = this;
    this.#qemu = spawn(
      'qemu-system-x86_64',
      [
        ...QEMU.trim().split(/\s+/),
        ...['-kernel', `${dir}/disk.linux`, '-initrd', `${dir}/disk.initrd`, '-append', KERNEL],
        ...['-drive', `file=${dir}/disk.qcow2,if=virtio,format=qcow2,cache=unsafe`],
        ...['-chardev', `socket,id=bench,path=${dir}/bench,server=on,wait=off`],
        ...['-chardev', `file,id=console,path=${dir}/console,append=on`, '-serial', 'chardev:console'],
        ...['-qmp', `unix:${dir}/qmp,server=on,wait=off`],
      ],
      { stdio: ['ignore', 'ignore', 'inherit'], env: { PATH: '/usr/bin:/bin' } },
    );
  }

  private async isUp(): Promise<void> {
    const done = /^(running|degraded)/;
    await until(() => fs.existsSync(`${this.dir}/bench`));
    await waitFor(() => this.ask('bench', 20, { command: ['true'] }).code === 0, 400, 'the agent');
    await waitFor(
      () => done.test(this.run('systemctl', 'is-system-running').out),
      600,
      'the end of the boot',
    );
  }

  override run(...command: string[]): Ran {
    const r = this.ask('bench', 260, { command: ['timeout', '-k', '5', '240', ...command] });
    return r.code === 0 ? (JSON.parse(r.out) as { return: Ran }).return : r;
  }

  /** Writes a file of the machine. */
  put(path: string, text: string): void {
    const made = `mkdir -p "$(dirname ${path})"; echo ${Buffer.from(text).toString('base64')} | base64 -d >${path}`;
    this.script(made);
  }

  /** Asks the agent, or qemu's monitor. */
  private ask(port: 'bench' | 'qmp', limit: number, question: object): Ran {
    const id = randomUUID();
    const hello = port === 'qmp' ? ['{"execute":"qmp_capabilities"}'] : [];
    const lines = [...hello, JSON.stringify({ id, ...question })];
    return sh('perl', ['-e', ASK, `${this.dir}/${port}`, String(limit), id, ...lines]);
  }

  private monitor(execute: string, args: object): void {
    const r = this.ask('qmp', 20, { execute, arguments: args });
    if (r.code !== 0 || r.out.includes('"error"')) throw new Error(`${execute}: ${r.out}${r.err}`);
  }

  /** Presses keys together, like "ctrl", "alt", "f2", so shortly that even a slow guest sees no key held down. */
  press(...keys: string[]): void {
    this.monitor('send-key', { keys: keys.map(data => ({ type: 'qcode', data })), 'hold-time': 5 });
  }

  /** Types a line, as a person does who is in no hurry. */
  async keys(text: string): Promise<void> {
    for (const c of `${text}\n`) {
      this.press(KEYS[c] ?? c);
      await sleep(120);
    }
  }

  /** Clicks on a place of the screen, in pixels of {@link shot}. */
  click(x: number, y: number): void {
    const to = (axis: string, at: number, size: number): object => ({
      type: 'abs',
      data: { axis, value: Math.round((at * 32767) / size) },
    });
    const button = (down: boolean): object => ({ type: 'btn', data: { button: 'left', down } });
    this.monitor('input-send-event', { events: [to('x', x, 800), to('y', y, 600)] });
    for (const down of [true, false]) this.monitor('input-send-event', { events: [button(down)] });
  }

  private dump(filename: string): void {
    this.monitor('screendump', { filename, format: 'png' });
  }

  override shot(name: string): void {
    fs.mkdirSync(ARTEFACTS, { recursive: true });
    this.dump(`${fs.realpathSync(ARTEFACTS)}/vm-${name}.png`);
  }

  /** Waits until the screen has shown the same for some seconds, with no wheel turning; but not for long. */
  async still(seconds = 3): Promise<void> {
    let before = '';
    let same = 0;
    for (let i = 0; i < 20 && same < seconds; i++) {
      this.dump(`${this.dir}/screen.png`);
      const now = fs.readFileSync(`${this.dir}/screen.png`, 'latin1');
      same = now === before ? same + 1 : 0;
      before = now;
      await sleep(1000);
    }
  }

  /** Waits until a greeter that has just come up, or comes to the front, takes keys. */
  async greeter(): Promise<void> {
    const up = `
      for f in /run/systemd/sessions/*; do
        [ -f $f ] || continue # a pipe stands beside each
        grep -qsx CLASS=greeter $f && grep -qsx ACTIVE=1 $f || continue
        case $(sed -n s/^SERVICE=//p $f) in
          lightdm-greeter)
            export DISPLAY=$(sed -n s/^DISPLAY=//p $f)
            export XAUTHORITY=/var/run/lightdm/root/$DISPLAY
            pgrep -x lightdm-gtk-gre && timeout 10 xdotool search --onlyvisible --class lightdm && exit
            ;;
          *)
            pid=$(pgrep -n -u Debian-gdm -x gnome-shell)
            journalctl -b -q _PID=$pid -g 'Registering session with GDM' | grep -q . && exit
            ;;
        esac
      done
      exit 1`;
    await waitFor(() => this.run('sh', '-c', up).code === 0, 600, 'the greeter');
    await this.still();
  }

  /** Types a name and a password at the greeter. */
  async logIn(p: Person): Promise<void> {
    await this.keys(p.name);
    await sleep(4000); // it asks PAM, and shows the next field
    await this.still();
    await this.keys(p.password);
  }

  /** The desktop that a person gets at the next login, by its id in the greeter's list. */
  choose(name: string, desktop: string): void {
    this.script(`
      bus() { busctl call org.freedesktop.Accounts "$@" >/dev/null; }
      bus /org/freedesktop/Accounts org.freedesktop.Accounts FindUserByName s ${name}
      for verb in SetSession SetXSession; do
        bus /org/freedesktop/Accounts/User$(id -u ${name}) org.freedesktop.Accounts.User $verb s ${desktop}
      done`);
  }

  /** Keeps the running machine as it is, disk and memory, for {@link restore}. */
  save(): void {
    this.human('savevm kept');
  }

  /** The machine as it was when it was kept, running. */
  async restore(): Promise<void> {
    this.human('loadvm kept');
    // What is said first is sometimes lost: the port was at another point of its own story.
    await waitFor(() => this.ask('bench', 4, { command: ['true'] }).code === 0, 60, 'the agent');
  }

  private human(command: string): void {
    const r = this.ask('qmp', 120, {
      execute: 'human-monitor-command',
      arguments: { 'command-line': command },
    });
    if (r.code !== 0 || !r.out.includes('"return": ""')) throw new Error(`${command}: ${r.out}${r.err}`);
  }

  override async off(how: 'orderly' | 'plug' = 'orderly'): Promise<void> {
    const qemu = this.#qemu;
    if (!qemu) return;
    if (how === 'orderly') this.run('systemctl', '--no-block', 'poweroff');
    else qemu.kill('SIGKILL');
    await until(() => qemu.exitCode !== null || qemu.signalCode !== null, 180_000);
    this.#qemu = undefined;
    for (const socket of ['bench', 'qmp']) fs.rmSync(`${this.dir}/${socket}`, { force: true });
  }

  /** Takes it away. */
  async close(): Promise<void> {
    await this.off('plug');
    fs.rmSync(this.dir, { recursive: true });
  }
}

const seconds = (since: number): string => ((Date.now() - since) / 1000).toFixed(0);

/** Waits, with a look every half second. */
export async function waitFor(what: () => boolean, limit: number, name: string): Promise<void> {
  const end = Date.now() + limit * 1000;
  while (!what()) {
    if (Date.now() > end) throw new Error(`${name}: not within ${limit} s`);
    await sleep(500);
  }
}
