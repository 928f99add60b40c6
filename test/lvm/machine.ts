/**
 * A machine with a device mapper, wherever the tests run: Debian's kernel as a process (user-mode Linux), with LVM,
 * udev and real block devices in files. It needs neither virtualisation nor modules of the kernel it runs on, boots
 * in three seconds, and switching it off at once is a signal.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { realHost } from '../../src/linux/real-host.ts';
import { hostSuite } from '../../src/update/apt-sources.ts';
import { must, tarball, treeOfLogins } from '../system/lab.ts';

const TOP = resolve(import.meta.dirname, '../..');
const CACHE = '/var/cache/mayfly-test';
const ARTEFACTS = `${TOP}/test/artefacts`;

const PACKAGES = [
  'udev,lvm2,thin-provisioning-tools,dmsetup,btrfs-progs,xfsprogs,e2fsprogs,psmisc,procps,kmod,iproute2',
  'busybox-static,schroot,nodejs,sudo,perl,passwd,dpkg-dev,apt-utils',
].join(',');

/** What the kernel starts: only reaches for the rest, so that the image need not change with it. */
const STUB = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mkdir -p /clone
mount -t hostfs -o "ro,$(sed -n 's|.*mayfly.clone=\\([^ ]*\\).*|\\1|p' /proc/cmdline)" clone /clone
exec sh /clone/test/lvm/init.sh
`;

interface Parts {
  readonly kernel: string;
  /** An ext4 with Debian and the kernel's modules; machines write to a file of their own over it. */
  readonly image: string;
  /** What the machine sees as the cache of the tests. */
  readonly trees: string;
  /** A library for the kernel's process, where the processor needs one. */
  readonly preload: string | undefined;
}

/** Makes what is made once per machine; other workers wait for it. */
function alone<T>(act: () => T): T {
  fs.mkdirSync(CACHE, { recursive: true });
  const lock = fs.openSync(`${CACHE}/uml.lock`, 'w');
  try {
    // The lock belongs to the open file, which is ours as well, and goes with it.
    const { status } = spawnSync('flock', ['3'], { stdio: ['ignore', 'ignore', 'inherit', lock] });
    if (status !== 0) throw new Error(`${CACHE}/uml.lock cannot be locked`);
    return act();
  } finally {
    fs.closeSync(lock);
  }
}

/** Made by xstate.c, which says what for. Undefined on processors that do without. */
function registersLibrary(): string | undefined {
  if (!/^flags\b.*\bamx_tile\b/m.test(fs.readFileSync('/proc/cpuinfo', 'utf8'))) return undefined;
  const source = `${TOP}/test/lvm/xstate.c`;
  const digest = createHash('sha256').update(fs.readFileSync(source)).digest('hex').slice(0, 8);
  const library = `${CACHE}/uml-xstate-${digest}.so`;
  if (fs.existsSync(library)) return library;
  const dir = fs.mkdtempSync(`${CACHE}/part-`);
  try {
    must('sh', ['-c', 'cd "$1" && exec apt-get download -q tcc', 'sh', dir]);
    const [deb] = fs.readdirSync(dir).filter(n => n.endsWith('.deb'));
    must('dpkg', ['-x', `${dir}/${deb}`, `${dir}/tcc`]);
    const own = `${dir}/tcc/usr/lib/x86_64-linux-gnu/tcc`;
    must(`${dir}/tcc/usr/bin/tcc`, ['-B', own, '-shared', '-nostdlib', '-o', `${dir}/library`, source]);
    fs.renameSync(`${dir}/library`, library);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
  return library;
}

/** What a tree is as whole without, and an emulator takes long to copy: three of four files. */
const LEFT_OUT = [
  ...['doc', 'man', 'locale', 'zoneinfo', 'i18n', 'perl'].map(name => `/usr/share/${name}/*`),
  '/usr/lib/*/perl/*', // perl-base has its own place
];

/** A directory with the trees that tests make pools from, under the names that `tarball` knows. */
function slimTrees(): string {
  const trees = [tarball(), treeOfLogins()];
  const digest = createHash('sha256').update(trees.join()).update(LEFT_OUT.join()).digest('hex').slice(0, 8);
  const cache = `${CACHE}/uml-tree-${digest}`;
  if (fs.existsSync(cache)) return cache;
  const dir = fs.mkdtempSync(`${CACHE}/part-`);
  fs.chmodSync(dir, 0o755);
  const script = 'from=$1 to=$2; shift 2; exec mmtarfilter "$@" <"$from" >"$to"';
  const words = LEFT_OUT.map(pattern => `--path-exclude=${pattern}`);
  for (const tree of trees) must('sh', ['-c', script, 'sh', tree, `${dir}/${basename(tree)}`, ...words]);
  fs.renameSync(dir, cache);
  return cache;
}

/** All that is made once per machine; apt works outside only. */
function umlParts(): Parts {
  const trees = slimTrees();
  const preload = registersLibrary();
  const suite = hostSuite(realHost()) ?? 'stable';
  const digest = createHash('sha256').update(PACKAGES).update(STUB).digest('hex').slice(0, 8);
  const image = `${CACHE}/${suite}-uml-${digest}.img`;
  const kernel = `${CACHE}/${suite}-uml-${digest}.linux`;
  if (fs.existsSync(image)) return { kernel, image, preload, trees };
  const tree = tarball(`uml-${digest}`, PACKAGES);
  const dir = fs.mkdtempSync(`${CACHE}/part-`);
  try {
    fs.chmodSync(dir, 0o755);
    must('sh', ['-c', 'cd "$1" && exec apt-get download -q user-mode-linux', 'sh', dir]);
    const [deb] = fs.readdirSync(dir).filter(n => n.endsWith('.deb'));
    must('dpkg', ['-x', `${dir}/${deb}`, `${dir}/uml`]);
    fs.mkdirSync(`${dir}/root`);
    must('tar', ['-xf', tree, '--exclude=./dev/*', '-C', `${dir}/root`]);
    fs.mkdirSync(`${dir}/root/usr/lib/modules`, { recursive: true });
    must('cp', ['-a', `${dir}/uml/usr/lib/uml/modules/.`, `${dir}/root/usr/lib/modules`]);
    fs.writeFileSync(`${dir}/root/usr/sbin/mayfly-init`, STUB, { mode: 0o755 });
    must('truncate', ['-s', '6G', `${dir}/image`]);
    must('mke2fs', ['-q', '-F', '-t', 'ext4', '-d', `${dir}/root`, `${dir}/image`]);
    fs.renameSync(`${dir}/uml/usr/bin/linux.uml`, kernel); // whole, and not into one that runs
    fs.renameSync(`${dir}/image`, image);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
  return { kernel, image, preload, trees };
}

/** The processor for the machines of this worker. */
function ownProcessor(): number {
  const text = /^Cpus_allowed_list:\s*(.*)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const all = text.split(',').flatMap(range => {
    const [first = 0, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  return all[Number(process.env.VITEST_POOL_ID ?? 0) % all.length] ?? 0;
}

/** How often a machine gets an extra timer interrupt, in milliseconds. */
const WAKE_UP = 5_000;

export interface Ended {
  /** The command's exit code; undefined where the machine was switched off before. */
  readonly code: number | undefined;
  readonly output: string;
  /** What the kernel said. */
  readonly console: string;
}

export class Uml {
  readonly dir = fs.mkdtempSync('/var/tmp/mayfly-test-');
  readonly #parts = alone(umlParts);
  #kernel: ChildProcess | undefined;

  /** `disks`: sizes of /dev/ubdb and so on; sparse, and kept from one boot to the next. */
  constructor(disks: readonly string[] = ['6G']) {
    fs.mkdirSync(`${this.dir}/exchange`);
    fs.mkdirSync(`${this.dir}/uml`);
    for (const [i, size] of disks.entries()) must('truncate', ['-s', size, `${this.dir}/disk${i}`]);
    this.#disks = disks.length;
  }
  readonly #disks: number;

  /** A file that the machine sees in /exchange. */
  exchange(name: string): string {
    return `${this.dir}/exchange/${name}`;
  }

  /**
   * Boots, runs shell commands in the clone, and ends when the machine has switched itself off, or after `seconds`.
   * The system's disk keeps what was written to it, as the others do.
   */
  async boot(command: string, seconds = 1200): Promise<Ended> {
    for (const name of ['output', 'code']) fs.rmSync(this.exchange(name), { force: true });
    fs.writeFileSync(this.exchange('command'), command);
    const disks = Array.from({ length: this.#disks }, (_, i) => `ubd${i + 1}=${this.dir}/disk${i}`);
    const args = [
      ...['mem=2048M', `umid=mayfly-${process.pid}`, `uml_dir=${this.dir}/uml/`],
      ...['root=/dev/ubda', 'rootfstype=ext4', 'rw', 'init=/usr/sbin/mayfly-init', 'quiet'],
      ...[`ubd0=${this.dir}/system,${this.#parts.image}`, ...disks, 'con=null', 'con0=null,fd:1'],
      ...[`mayfly.clone=${TOP}`, `mayfly.exchange=${this.dir}/exchange`, `mayfly.trees=${this.#parts.trees}`],
      `mayfly.modules=${fs.realpathSync(`${TOP}/node_modules`)}`,
      `mayfly.runner=${dirname(process.execPath)}`,
    ];
    const { preload } = this.#parts;
    // Kernel and processes take turns: on one processor each turn is a quarter cheaper than across two.
    const kernel = spawn('taskset', ['-c', String(ownProcessor()), this.#parts.kernel, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: this.dir,
      // Nothing else: it takes variables for parameters.
      env: { PATH: '/usr/bin:/bin', ...(preload === undefined ? {} : { LD_PRELOAD: preload }) },
      detached: true, // a group of its own: each process in it is one of ours
    });
    this.#kernel = kernel;
    const cut = (): void => this.cutPower();
    process.once('exit', cut);
    let said = '';
    for (const stream of [kernel.stdout, kernel.stderr])
      stream.on('data', chunk => {
        said += chunk;
      });
    const timer = setTimeout(() => this.cutPower(), seconds * 1000);
    // The kernel now and then loses the signal of its timer (Linux 6.1: it disarms the timer and waits for ever, seen
    // once in some thirty boots). An extra one is harmless as soon as it can take one, which its console socket shows.
    const console = `${this.dir}/uml/mayfly-${process.pid}/mconsole`;
    const wakeUp = setInterval(() => fs.existsSync(console) && kernel.kill('SIGALRM'), WAKE_UP);
    await new Promise(yes => kernel.on('close', yes));
    clearInterval(wakeUp);
    clearTimeout(timer);
    process.off('exit', cut);
    this.cutPower(); // whatever of it is left
    this.#kernel = undefined;
    const text = (name: string): string =>
      fs.existsSync(this.exchange(name)) ? fs.readFileSync(this.exchange(name), 'utf8') : '';
    const code = text('code').trim();
    return { code: code === '' ? undefined : Number(code), output: text('output'), console: said };
  }

  /** Off, at once: what was not written to the disks is lost. */
  cutPower(): void {
    const pid = this.#kernel?.pid;
    if (pid === undefined) return;
    try {
      process.kill(-pid, 'SIGKILL');
    } catch {
      // it is off already
    }
  }

  /** Keeps what was said for people to look at, and removes everything. */
  close(name?: string): void {
    this.cutPower();
    if (name !== undefined && fs.existsSync(this.exchange('output'))) {
      fs.mkdirSync(ARTEFACTS, { recursive: true });
      fs.copyFileSync(this.exchange('output'), `${ARTEFACTS}/lvm-${name}.log`);
    }
    fs.rmSync(this.dir, { recursive: true });
  }
}
