/**
 * A machine in memory, with mounts, processes, cgroups and a memory backend, that can crash at call N. After the
 * crash it ignores everything that the program still tries, like a process after SIGKILL or a machine without power.
 */

import { afterEach } from 'vitest';
import { readConfig } from '../src/config/parse.ts';
import { MayflyError } from '../src/errors.ts';
import type { Command, Output } from '../src/linux/command.ts';
import type { Host, Stat } from '../src/linux/host.ts';
import { noLog } from '../src/linux/log.ts';
import { type Mount, MS } from '../src/linux/mount-program.ts';
import { OWNERSHIP_PROGRAM } from '../src/linux/ownership.ts';
import { identify } from '../src/linux/process-id.ts';
import { LOOK_PROGRAM } from '../src/linux/process-look.ts';
import { ANSWER_PROGRAM } from '../src/linux/time-limits.ts';
import { DIFFERENCE_PROGRAM } from '../src/linux/tree-difference.ts';
import type { HookCall } from '../src/session/hook-call.ts';
import { type Generation, writeGeneration } from '../src/state/generations.ts';
import type { Machine } from '../src/state/machine.ts';
import { makeDirectories, pathsOf } from '../src/state/paths.ts';
import { writePool } from '../src/state/pool.ts';
import type { Role, Volume, VolumeBackend } from '../src/volume/backend.ts';
import { volumePath } from '../src/volume/directory-layout.ts';
import { usageOf } from '../src/volume/usage.ts';

/** Thrown by every call of a dead process. */
export class Died extends Error {}

export interface Node {
  readonly kind: Stat['kind'];
  readonly text: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly ino: number;
}

export interface FileSystem {
  readonly dev: number;
  readonly nodes: Map<string, Node>;
}

/** Device numbers of this world are given once. */
const identityIn = (fs: FileSystem): string => `memory ${fs.dev}`;

interface Mounted {
  readonly target: string;
  readonly fs: FileSystem;
  /** The directory of `fs` that is visible at the target. */
  readonly at: string;
  /** A recursive bind that is not a slave yet: what is unmounted below it goes from below its source as well. */
  peerOf?: string | undefined;
}

interface Process {
  /** The command line of a set-uid program. */
  readonly words?: readonly string[];
  readonly start: string;
  readonly dev: number;
  readonly comm: string;
  readonly ignoresTerm: boolean;
  /** It handles SIGTERM, and does not end. */
  readonly works?: boolean;
  cgroup: string;
  readonly parent?: number;
  /** Default: root. */
  readonly uid?: number;
  /** The device of its working directory, if it is not that of its root. */
  readonly cwd?: number;
}

/** Mounts of the host below directories that are bound into sessions. */
const HOST_MOUNTS = ['/dev/pts', '/home/net'];

const TIMES = { mtimeMs: 0, ctimeMs: 0, birthtimeMs: 0 } as const;

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf('/')) || '/';

/**
 * Commands that were run and that no world knows. A caller may catch what such a run throws; so the test fails after it
 * all the same.
 */
const strangers: string[] = [];
afterEach(() => {
  const all = strangers.splice(0);
  if (all.length > 0) throw new Error(all.join('\n'));
});

/** What leads a program to a display, a session bus or a Wayland socket, and the programs that show something there. */
const DESKTOP =
  /^(DISPLAY|XAUTHORITY|WAYLAND_\w+|DBUS_SESSION_\w+|XDG_RUNTIME_DIR|AT_SPI_\w+)=|^--address=.*\/run\/user\/|^(zenity|xmessage|notify-send|xhost|xauth)$/;

/** Whether a command would bring root to a person's desktop: they decide there which code their clients load. */
export function isRootOnDesktop({ file, args }: Pick<Command, 'file' | 'args'>): boolean {
  const argv = [file, ...args];
  const first = argv.findIndex(word => DESKTOP.test(word));
  if (first < 0) return false;
  const before = argv.slice(0, first);
  const drop = before.slice(before.indexOf('setpriv'), first);
  const numberOf = (option: string): number => Number(drop[drop.indexOf(option) + 1]);
  const isDropped =
    drop[0] === 'setpriv' &&
    numberOf('--reuid') > 0 &&
    numberOf('--regid') >= 0 &&
    drop.includes('--clear-groups');
  return !(isDropped && drop.includes('--no-new-privs') && drop.join(' ').includes(' env -i '));
}

export class World {
  calls = 0;
  dieAt = Number.POSITIVE_INFINITY;
  boot = 'boot-1';
  pid = 100;
  /** Commands that were run and that change something, with their arguments. */
  readonly ran: string[] = [];
  /** Names of programs that fail when they are run. */
  readonly failing = new Set<string>();
  readonly processes = new Map<number, Process>();
  readonly volumes = new Map<string, FileSystem>();
  /** Volumes of ended sessions that are not erased yet, by their key and device. */
  readonly discarded = new Map<string, FileSystem>();
  /** Diversions of dpkg, by path: the target and the package. */
  readonly diversions = new Map<string, { readonly to: string; readonly by: string }>();
  /** Versions of installed packages. */
  readonly installed = new Map<string, string>();
  /** Texts of seals, by the path of the pool and the number. */
  readonly seals = new Map<string, string>();
  /** The file system of the pool is mounted. */
  isPoolThere = true;
  /** Volume names that a foreign object occupies. */
  readonly foreign = new Set<string>();
  /** What df(1) would report. */
  space: Host['space'] = () => ({
    total: 2 ** 40,
    used: 0,
    free: 2 ** 40,
    inodes: 0,
    freeInodes: 0,
    type: 0,
  });
  /** FIFOs that are open for reading, by descriptor. */
  readonly readers = new Map<number, { readonly pid: number; readonly path: string }>();
  private descriptors = 100;
  private mounts: Mounted[] = [];
  private devices = 10;
  private inodes = 1;
  /** Milliseconds since boot. */
  private clock = 3_600_000;
  /** The time of day at boot. */
  private booted = Date.parse('2026-01-01T00:00:00Z') - this.clock;
  private chance = 0;

  constructor() {
    this.mounts.push({ target: '/', fs: this.newFs(), at: '' });
    for (const path of [
      '/etc/schroot/chroot.d',
      '/var/lib',
      '/run',
      '/home/alice',
      '/tmp',
      '/proc',
      '/sys/fs/cgroup',
      '/dev',
    ]) {
      this.makeDirs(path);
    }
    for (const path of HOST_MOUNTS) this.mountEmpty(path);
    this.put(
      '/etc/passwd',
      'root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1002:1002::/home/bob:/bin/sh\n',
    );
    this.put('/etc/group', 'alice:x:1001:\nbob:x:1002:\naudio:x:29:alice\n');
    this.put('/etc/shadow', 'root:*::\nalice:secret:::::::\nbob:other:::::::\n');
    this.makeDirs('/bin');
    this.put('/bin/busybox', '\u007fELF, static', 0o755);
    this.put('/sys/fs/cgroup/cgroup.procs', '');
    this.put('/sys/fs/cgroup/cgroup.subtree_control', '');
    for (const [pid, comm] of [
      [1, 'init'],
      [50, 'lightdm'],
      [60, 'gdm-session-worker'],
    ] as const) {
      this.processes.set(pid, { start: String(pid), dev: this.rootDev, comm, ignoresTerm: true, cgroup: '' });
    }
    this.newProcess();
  }

  get rootDev(): number {
    return this.mounts[0]?.fs.dev ?? 0;
  }

  /** Starts another process on the same machine; the previous one is gone, and what it had open is closed. */
  newProcess(): void {
    for (const [fd, r] of this.readers) if (r.pid === this.pid) this.readers.delete(fd);
    this.processes.delete(this.pid);
    this.pid += 1;
    this.processes.set(this.pid, {
      start: String(this.pid),
      dev: this.rootDev,
      comm: 'mayfly',
      ignoresTerm: false,
      cgroup: '',
    });
    this.calls = 0;
    this.dieAt = Number.POSITIVE_INFINITY;
  }

  /** Power fails and returns: processes, mounts and /run are gone. */
  reboot(): void {
    this.boot = `boot-${Number(this.boot.slice(5)) + 1}`;
    this.booted += this.clock;
    this.clock = 10_000;
    this.mounts = this.mounts.filter(m => ['/', ...HOST_MOUNTS].includes(m.target));
    for (const pid of [...this.processes.keys()]) if (pid > 60) this.processes.delete(pid);
    const root = this.mounts[0]?.fs;
    for (const path of [...(root?.nodes.keys() ?? [])]) {
      if (path.startsWith('/run/') || /^\/sys\/fs\/cgroup\/mayfly/.test(path)) root?.nodes.delete(path);
    }
    this.newProcess();
  }

  /** Somebody sets the time of day, `ms` milliseconds forwards. */
  setClock(ms: number): void {
    this.booted += ms;
  }

  /** Mounts an empty file system of the host's own. */
  mountEmpty(target: string): void {
    this.makeDirs(target);
    this.mounts.push({ target, fs: this.newFs(), at: '' });
  }

  /** Adds a process in the file system mounted at `root`. */
  enter(root: string, ignoresTerm = false, works = false): number {
    const pid = 1000 + this.processes.size;
    const dev = this.resolve(root).fs.dev;
    this.processes.set(pid, { start: String(pid), dev, comm: 'xterm', ignoresTerm, works, cgroup: '' });
    return pid;
  }

  /** Adds a process of the host whose working directory is in the file system mounted at `path`. */
  visit(path: string, uid: number): number {
    const pid = 2000 + this.processes.size;
    const cwd = this.resolve(path).fs.dev;
    const o = { start: String(pid), comm: 'find', ignoresTerm: false, cgroup: '' };
    this.processes.set(pid, { ...o, dev: this.rootDev, uid, cwd });
    return pid;
  }

  put(path: string, text: string, mode = 0o644): void {
    this.set(path, { kind: 'file', text, mode });
  }

  /** Changes owner, group and mode. */
  chown(path: string, id: number, mode: number, gid = id): void {
    const n = this.node(path);
    if (n) this.set(path, { ...n, uid: id, gid, mode });
  }

  /** The complete state, for comparison, without our own process, lock files and the mount of the private roots. */
  picture(): string {
    const files = this.mounts
      .filter((m, i) => this.mounts.findIndex(o => o.fs === m.fs) === i)
      .flatMap(m =>
        [...m.fs.nodes].map(([p, n]) => `${m.target}:${p} ${n.kind} ${n.mode.toString(8)} ${n.text}`),
      )
      .filter(line => !/\/run\/mayfly\/(locks|health)|config.*cache/.test(line));
    const mounts = this.mounts.map(m => m.target);
    const volumes = [...this.volumes].map(
      ([name, fs]) => `${name} ${JSON.stringify([...fs.nodes].map(([p, n]) => [p, n.text]))}`,
    );
    for (const name of this.discarded.keys()) volumes.push(`${name} (discarded)`);
    const processes = [...this.processes]
      .filter(([pid]) => pid !== this.pid)
      .map(([pid, p]) => `${pid} ${p.comm}`);
    const diversions = [...this.diversions].map(([from, d]) => `${from} ${d.to} ${d.by}`);
    return JSON.stringify(
      {
        files: files.sort(),
        diversions,
        mounts: mounts.sort(),
        volumes: volumes.sort(),
        processes: processes.sort(),
      },
      null,
      1,
    );
  }

  /** All that is mounted; the first is the root. */
  fileSystems(): readonly FileSystem[] {
    return this.mounts.map(m => m.fs);
  }

  private newFs(): FileSystem {
    this.devices += 1;
    const root: Node = { kind: 'dir', text: '', mode: 0o755, uid: 0, gid: 0, ino: 0 };
    return { dev: this.devices, nodes: new Map([['', root]]) };
  }

  private resolve(path: string): { fs: FileSystem; rel: string; mount: Mounted } {
    const on = this.mounts
      .filter(m => m.target === '/' || path === m.target || path.startsWith(`${m.target}/`))
      .reduce((best, m) => (m.target.length >= best.target.length ? m : best));
    const below = on.target === '/' ? path : path.slice(on.target.length);
    return { fs: on.fs, rel: `${on.at}${below === '/' ? '' : below}`, mount: on };
  }

  private node(path: string): Node | undefined {
    const { fs, rel } = this.resolve(path);
    return fs.nodes.get(rel);
  }

  /** One line for each name in a tree: size, owners and mode. */
  private sizesIn(tree: string): string {
    const nodes = [...(this.volumes.get(tree)?.nodes.values() ?? [])];
    return nodes
      .map(n => `${n.kind === 'dir' ? 0 : n.text.length} ${n.uid} ${n.gid ?? n.uid} ${n.mode.toString(8)}\n`)
      .join('');
  }

  private set(
    path: string,
    n: { kind: Node['kind']; text: string; mode: number; uid?: number; gid?: number },
  ): void {
    if (this.node(parentOf(path))?.kind !== 'dir') throw this.errno('ENOENT', path);
    const { fs, rel } = this.resolve(path);
    this.inodes += 1;
    fs.nodes.set(rel, { uid: 0, gid: 0, ino: this.inodes, ...n });
  }

  makeDirs(path: string): void {
    const parts = path.split('/').slice(1);
    parts.reduce((above, part) => {
      const at = `${above}/${part}`;
      if (!this.node(at)) this.set(at, { kind: 'dir', text: '', mode: 0o755 });
      return at;
    }, '');
  }

  private errno(code: string, path: string): Error {
    return Object.assign(new Error(`${code}: ${path}`), { code });
  }

  /** Called by every effect; a dead process has none. */
  private effect(): void {
    this.calls += 1;
    if (this.calls >= this.dieAt) throw new Died(`died at call ${this.dieAt}`);
  }

  /** In how many paths two trees differ, with the arguments of the program that counts them. */
  private differences([, , , , before = '', after = '', , ...ignored]: readonly string[]): number {
    const rowsOf = (tree: string): string[] => {
      const { fs, rel } = this.resolve(tree);
      const isIgnored = (at: string): boolean => ignored.some(path => `${at}/`.startsWith(`/${path}/`));
      return [...fs.nodes].flatMap(([path, { ino: _, ...node }]) => {
        const at = path.startsWith(`${rel}/`) ? path.slice(rel.length) : '';
        return at === '' || isIgnored(at) ? [] : [`${at} ${JSON.stringify(node)}`];
      });
    };
    const [old, now] = [new Set(rowsOf(before)), new Set(rowsOf(after))];
    return [...old].filter(row => !now.has(row)).length + [...now].filter(row => !old.has(row)).length;
  }

  private children(path: string): string[] {
    const { fs, rel } = this.resolve(path);
    const names = [...fs.nodes.keys()].filter(p => p.startsWith(`${rel}/`)).map(p => p.slice(rel.length + 1));
    return [...new Set(names.filter(n => !n.includes('/')))].sort();
  }

  private proc(path: string): { pid: number; what: string } | undefined {
    const m = /^\/proc\/(\d+)\/(.*)$/.exec(path);
    return m ? { pid: Number(m[1]), what: m[2] ?? '' } : undefined;
  }

  private mount(m: Mount): undefined {
    if (this.node(m.target)?.kind === undefined) throw this.errno('ENOENT', m.target);
    if (m.type === 'memory') {
      const fs = this.volumes.get(m.source);
      if (!fs) throw new MayflyError('command', `no volume ${m.source}`);
      this.mounts.push({ target: m.target, fs, at: '' });
    } else if (m.type === 'tmpfs') this.mounts.push({ target: m.target, fs: this.newFs(), at: '' });
    else {
      const { fs, rel } = this.resolve(m.source);
      this.mounts.push({ target: m.target, fs, at: rel });
    }
  }

  /** Makes one mount, like mount(8). */
  private runMount(args: readonly string[]): undefined {
    const options = args[args.indexOf('-o') + 1] ?? '';
    // An image contains its own file system, and a tmpfs is one.
    const type = args[0] === '-t' ? (args[1] ?? '') : options.startsWith('loop') ? 'tmpfs' : 'none';
    const [source = '', target = ''] = args.slice(-2);
    this.mount({ source, target, type, options });
  }

  private umount(target: string): undefined {
    const last = this.mounts.map(m => m.target).lastIndexOf(target);
    if (last < 0) throw new MayflyError('command', `${target}: not mounted`);
    const isIn = (place: string, m: Mounted): boolean => m.target.startsWith(`${place}/`);
    const peers = this.mounts.filter((m, i) => i === last || isIn(target, m)).flatMap(m => m.peerOf ?? []);
    this.mounts = this.mounts.filter(
      (m, i) => i !== last && !isIn(target, m) && !peers.some(place => isIn(place, m)),
    );
  }

  /** The program of `src/linux/mount-program.ts`: seven arguments per call; it can be killed between any two calls. */
  private runCalls(args: readonly string[]): undefined {
    for (let i = 3; i < args.length; i += 7) {
      const [op, source = '', target = '', type = '', flags = ''] = args.slice(i, i + 7);
      if (op === 'dir' || op === 'file') {
        const there = this.node(target)?.kind;
        if (there === op) continue;
        this.effect();
        if (there !== undefined) throw new MayflyError('command', `"perl" failed: ${target} is a ${there}`);
        this.set(target, { kind: op, text: '', mode: 0o755 });
        continue;
      }
      this.effect();
      if (op === 'detach') this.umount(target);
      if (op === 'slave')
        for (const m of this.mounts) if (`${m.target}/`.startsWith(`${target}/`)) delete m.peerOf;
      if (op === 'mount') {
        this.mount({ source, target, type, options: '' });
        const made = this.mounts.at(-1);
        if (made && Number(flags) & MS.REC) made.peerOf = source;
        this.effect(); // the second call, for the propagation
        delete made?.peerOf;
      }
    }
  }

  /** The program of `src/linux/process-look.ts`. */
  private look([, , , of = '', skip = '', devices = '']: readonly string[]): Partial<Output> {
    const [uid, system] = of.split(',').map(Number);
    const wanted = new Set(devices.split(',').map(Number));
    const skipped = new Set(skip.split(',').map(Number));
    const lines = [...this.processes].flatMap(([pid, p]) => {
      const isAsked = of === 'all' || p.uid === uid || (system === 1 && (p.uid ?? 0) < 1000);
      const use = wanted.has(p.dev) ? 'root' : isAsked && p.cwd && wanted.has(p.cwd) ? 'cwd' : undefined;
      return use === undefined || pid < 2 || skipped.has(pid) ? [] : [`${pid}\t${p.comm}\t${use}\n`];
    });
    return { stdout: lines.join('') };
  }

  /** dpkg-divert(1), without renames. Like the real one it succeeds if the diversion already exists. */
  private divert(args: readonly string[]): string {
    const path = args.at(-1) ?? '';
    const there = this.diversions.get(path);
    if (args[0] === '--listpackage') return there ? `${there.by}\n` : '';
    if (args[0] === '--truename') return `${there?.to ?? path}\n`;
    const [, by = '', verb, , , to = ''] = args;
    if (there && there.by !== by) throw new MayflyError('command', `${path} is diverted by ${there.by}`);
    if (verb === '--add') this.diversions.set(path, { to, by });
    else this.diversions.delete(path);
    return '';
  }

  /** pam-auth-update(8): our profile before pam_systemd, in a stack that was not edited by hand. */
  private updatePam(on: boolean): void {
    const path = '/etc/pam.d/common-session';
    const lines = (this.host.read(path) ?? '').split('\n').filter(l => !l.includes('mayfly/hooks/pam'));
    if (lines.includes('# by hand')) return;
    if (on)
      lines.splice(
        lines.findIndex(l => l.includes('pam_systemd')),
        0,
        'session requisite pam_exec.so /usr/lib/mayfly/hooks/pam/session',
      );
    this.put(path, lines.join('\n'), 0o644);
  }

  private run(c: Command): Output {
    if (c.file === 'flock') return { code: 0, stdout: '', stderr: '' }; // the lock dies with its holder: no lasting effect
    for (const one of [c, c.pipeFrom])
      if (one && isRootOnDesktop(one)) throw this.isStrange(one.file, one.args);
    const isLook = [LOOK_PROGRAM, ANSWER_PROGRAM].includes(c.args[1] ?? '');
    if (!isLook) this.effect();
    if (!isLook) this.ran.push(`${c.file} ${c.args.join(' ')}`);
    if (this.failing.has(c.file)) throw new MayflyError('command', `"${c.file}" failed as told`);
    const act = this.programs[c.file];
    if (!act) throw this.isStrange(c.file, c.args);
    return { code: 0, stdout: '', stderr: '', ...act(c.args) };
  }

  /** A command in a session, which is always well there; schroot(1) wants the session's entry. */
  private enterSession(args: readonly string[]): Partial<Output> | undefined {
    if (args.at(-3)?.includes('systemd-tmpfiles')) return; // what a boot of a tree creates: nothing
    const at = args.indexOf('schroot');
    if (at < 0 || args[at + 1] !== '-c') throw this.isStrange('setpriv', args);
    if (this.node(`/etc/schroot/chroot.d/mayfly-${args[at + 2]}`)?.kind !== 'file')
      throw new MayflyError('command', `schroot: no session "${args[at + 2]}"`);
    return args.at(-1) === 'echo entered' ? { stdout: 'entered\n' } : undefined;
  }

  /** For a program of which only this use is known, and has no effect. */
  private knows(file: string, args: readonly string[], use: boolean): undefined {
    if (!use) throw this.isStrange(file, args);
  }

  private isStrange(file: string, args: readonly string[]): Error {
    const words = `the world does not know this command: ${file} ${args.join(' ')}`;
    strangers.push(words);
    return new Error(words);
  }

  /** What the programs of this machine do and answer. There are no others: see {@link strangers}. */
  readonly programs: Record<string, (args: readonly string[]) => Partial<Output> | undefined> = {
    mount: args => (args[0]?.startsWith('--make-') ? undefined : this.runMount(args)),
    umount: args => this.umount(args.at(-1) ?? ''),
    btrfs: args => this.knows('btrfs', args, args.slice(0, 3).join(' ') === 'subvolume set-default 5'),
    perl: args => {
      const given = args.slice(args.indexOf('--') + 1);
      if (args[1] === LOOK_PROGRAM) return this.look(given);
      if (args[1] === OWNERSHIP_PROGRAM) return {}; // everything belongs to root
      if (args[1] === DIFFERENCE_PROGRAM) return { stdout: `${this.differences(given)}\n` };
      if (args[1] === ANSWER_PROGRAM) return { stdout: given.map(() => '\n').join('') };
      return args.includes('setpriv') ? {} : this.runCalls(given); // or a window
    },
    'dpkg-divert': args => ({ stdout: this.divert(args) }),
    env: args => {
      if (args[1] !== 'pam-auth-update') throw this.isStrange('env', args);
      this.updatePam(args[2] === '--enable');
      return undefined;
    },
    'dpkg-query': args => {
      const version = this.installed.get(args.at(-1) ?? '');
      return { code: version ? 0 : 1, stdout: version ? `${args.at(-1)}\t${version}\n` : '' };
    },
    // Every number of a group has a name, also of those that a test leaves out of /etc/group.
    getent: ([, database = '', ...keys]) =>
      database === 'group' && keys.every(key => /^\d+$/.test(key))
        ? { stdout: keys.map(key => `group${key}:x:${key}:\n`).join('') }
        : { code: 2 },
    // Otherwise directories of a tree: there are none.
    find: args =>
      args.includes('%s %U %G %m\\n')
        ? { stdout: this.sizesIn(args[0] ?? '') }
        : this.knows('find', args, args.includes('-printf')),
    vgs: args => this.knows('vgs', args, args.includes('vg_name')),
    systemctl: args => this.knows('systemctl', args, args[0] === 'daemon-reload'),
    tar: args => {
      const into = this.volumes.get(args[args.indexOf('-C') + 1] ?? '');
      if (into) addSystem(into);
      return this.knows('tar', args, ['--version', '--extract'].includes(args[0] ?? ''));
    },
    setpriv: args =>
      args.includes(OWNERSHIP_PROGRAM)
        ? this.programs.perl?.(args.slice(args.indexOf('perl') + 1))
        : this.enterSession(args),
    timeout: args => this.knows('timeout', args, args.includes('perl')), // brings a session up to date
    mkfifo: args => {
      const path = args.at(-1) ?? '';
      if (this.node(path)) return { code: 1 };
      this.set(path, { kind: 'other', text: '', mode: 0o600 });
      return undefined;
    },
    findmnt: () => ({ stdout: '/ ext4 rw,relatime shared\n' }),
    shutdown: () => undefined, // it comes later, if at all
    unshare: args => this.knows('unshare', args, args.includes('overlay')), // the trial of a pool
    rm: args => this.removeTree(args.at(-1) ?? ''),
    stat: () => ({ stdout: 'memory\n' }),
  };

  readonly host: Host = {
    run: async c => this.run(c),
    runInteractive: async () => 0,
    read: path => {
      if (path === '/proc/sys/kernel/random/boot_id') return this.boot;
      if (path === '/proc/uptime') return `${(this.clock / 1000).toFixed(2)} 0.00\n`;
      const proc = this.proc(path);
      if (proc) {
        const p = this.processes.get(proc.pid);
        if (!p) return undefined;
        if (proc.what === 'stat')
          return `${proc.pid} (${p.comm}) S ${p.parent ?? 1} ${'0 '.repeat(17)}${p.start} 0`;
        if (proc.what === 'status') {
          const term = (is = false): string => (is ? '4000' : '0');
          return `State:\tS (sleeping)\nPPid:\t${p.parent ?? 1}\nUid:\t${p.uid ?? 0}\t${p.words ? 0 : (p.uid ?? 0)}\t0\t0\nSigIgn:\t${term(p.ignoresTerm)}\nSigCgt:\t${term(p.works)}\n`;
        }
        if (proc.what === 'cmdline') return (p.words ?? []).map(word => `${word}\0`).join('');
        if (proc.what === 'comm') return `${p.comm}\n`;
        return proc.what === 'cgroup' ? `0::${p.cgroup}\n` : '';
      }
      if (path.endsWith('/cgroup.procs')) {
        const group = parentOf(path);
        if (!this.node(group)) return undefined;
        return [...this.processes]
          .filter(([, p]) => `/sys/fs/cgroup${p.cgroup}` === group)
          .map(([pid]) => `${pid}\n`)
          .join('');
      }
      return this.node(path)?.kind === 'file' ? this.node(path)?.text : undefined;
    },
    list: path => {
      if (path === '/proc') return [...this.processes.keys()].map(String);
      const pid = /^\/proc\/(\d+)\/fd$/.exec(path)?.[1];
      if (pid === undefined) return this.children(path);
      return [...this.readers].filter(([, r]) => r.pid === Number(pid)).map(([fd]) => String(fd));
    },
    lstat: path => {
      const n = path === '' ? undefined : this.node(path);
      const dev = this.resolve(path).fs.dev;
      return (
        n && {
          kind: n.kind,
          dev,
          ino: n.ino,
          uid: n.uid,
          gid: n.gid,
          mode: n.mode,
          size: n.text.length,
          ...TIMES,
        }
      );
    },
    stat: path => {
      const proc = this.proc(path);
      const process = proc && this.processes.get(proc.pid);
      const dev = proc?.what === 'cwd' ? (process?.cwd ?? process?.dev) : process?.dev;
      if (proc)
        return dev === undefined
          ? undefined
          : { kind: 'dir', dev, ino: 1, uid: 0, gid: 0, mode: 0o755, size: 0, ...TIMES };
      return this.host.lstat(path);
    },
    exists: path => this.host.stat(path) !== undefined,
    pathType: path => {
      const there = this.host.stat(path);
      return there && (there.kind === 'dir' ? 'dir' : 'other');
    },
    readlink: path => {
      const fd = /^\/proc\/\d+\/fd\/(\d+)$/.exec(path)?.[1];
      if (fd !== undefined) return this.readers.get(Number(fd))?.path;
      return this.node(path)?.kind === 'link' ? this.node(path)?.text : undefined;
    },
    space: path => this.space(path),
    write: (path, text, o) => {
      const temporary = `${parentOf(path)}/.${path.slice(path.lastIndexOf('/') + 1)}.${this.pid}.tmp`;
      this.effect();
      this.set(temporary, { kind: 'file', text: typeof text === 'string' ? text : text(), mode: o.mode });
      this.effect();
      this.host_rename(temporary, path);
    },
    symlink: (target, path) => {
      this.effect();
      this.set(path, { kind: 'link', text: target, mode: 0o777 });
    },
    mkdir: (path, mode) => {
      const there = this.node(path);
      if (there && there.kind !== 'dir') throw new MayflyError('unsafe', `${path} is not a directory`);
      if (there) return;
      this.effect();
      this.set(path, { kind: 'dir', text: '', mode });
    },
    own: (path, mode) => {
      const n = this.node(path);
      if (!n) throw this.errno('ENOENT', path);
      if (n.kind !== 'dir') throw new MayflyError('unsafe', `"${path}" is not a directory`);
      if (n.uid === 0 && n.gid === 0 && n.mode === mode) return;
      this.effect();
      this.set(path, { ...n, mode, uid: 0, gid: 0 });
    },
    writeControlFile: (path, text) => {
      this.effect();
      const group = parentOf(path).slice('/sys/fs/cgroup'.length);
      if (!this.node(parentOf(path))) return false;
      const file = path.startsWith('/sys/') ? undefined : this.node(path);
      if (file) {
        this.set(path, { ...file, text: text + file.text.slice(text.length) });
        return true;
      }
      if (path.endsWith('cgroup.kill')) {
        for (const [pid, p] of [...this.processes]) if (p.cgroup === group) this.processes.delete(pid);
      } else {
        const p = this.processes.get(Number(text));
        if (!p) return false;
        p.cgroup = group;
      }
      return true;
    },
    rename: (from, to) => {
      this.effect();
      this.host_rename(from, to);
    },
    unlink: path => {
      if (!this.node(path)) return;
      this.effect();
      const { fs, rel } = this.resolve(path);
      fs.nodes.delete(rel);
    },
    rmdir: path => {
      if (!this.node(path)) return;
      this.effect();
      if (this.children(path).length > 0) throw this.errno('ENOTEMPTY', path);
      if (this.mounts.some(m => m.target === path)) throw this.errno('EBUSY', path);
      const { fs, rel } = this.resolve(path);
      fs.nodes.delete(rel);
    },
    sync: () => undefined,
    openLock: () => 3,
    openFifo: path => {
      if (this.node(path)?.kind !== 'other') return undefined;
      this.descriptors += 1;
      this.readers.set(this.descriptors, { pid: this.pid, path });
      return this.descriptors;
    },
    hasReader: path => [...this.readers.values()].some(r => r.path === path),
    close: fd => {
      this.readers.delete(fd);
    },
    kill: (pid, signal) => {
      this.effect();
      const p = this.processes.get(pid);
      if (p && (signal === 'SIGKILL' || !(p.ignoresTerm || p.works))) this.processes.delete(pid);
      return p !== undefined;
    },
    pid: 0,
    ppid: 50,
    sleep: async ms => {
      this.clock += ms;
    },
    now: () => this.booted + this.clock,
    monotonic: () => this.clock,
    random: () => {
      this.chance += 1;
      return this.chance.toString(16).padStart(8, '0');
    },
  };

  private removeTree(path: string): undefined {
    const { fs, rel } = this.resolve(path);
    for (const at of [...fs.nodes.keys()]) if (at === rel || at.startsWith(`${rel}/`)) fs.nodes.delete(at);
  }

  private host_rename(from: string, to: string): void {
    const n = this.node(from);
    if (!n) throw this.errno('ENOENT', from);
    const source = this.resolve(from);
    const target = this.resolve(to);
    for (const path of [...source.fs.nodes.keys()]) {
      if (path !== source.rel && !path.startsWith(`${source.rel}/`)) continue;
      const moved = source.fs.nodes.get(path);
      source.fs.nodes.delete(path);
      if (moved) target.fs.nodes.set(target.rel + path.slice(source.rel.length), moved);
    }
  }

  /** A backend that keeps volumes as maps. `pool` is only a name here. */
  backend(): VolumeBackend {
    const key = (v: Volume): string => {
      volumePath(v); // throws for an invalid name
      return `${v.pool}/${v.role}/${v.name}`;
    };
    const get = (v: Volume): FileSystem => {
      const fs = this.volumes.get(key(v));
      if (!fs) throw new MayflyError('no-generation', `the ${v.role} volume "${key(v)}" does not exist`);
      return fs;
    };
    const absent = (v: Volume): void => {
      if (this.volumes.has(key(v))) throw new MayflyError('exists', `the volume "${key(v)}" already exists`);
    };
    const held = async (v: Volume): Promise<string | undefined> => {
      const fs = this.volumes.get(key(v));
      return fs && this.mounts.some(m => m.fs === fs) ? 'it is mounted' : undefined;
    };
    const MARK = '/.mayfly-seal';
    return {
      kind: 'overlay',
      check: async () => [],
      prepare: async () => undefined,
      create: async v => {
        absent(v);
        this.effect();
        this.volumes.set(key(v), this.newFs());
      },
      fork: async (from, to) => {
        if (from.role === 'session') throw new MayflyError('unsafe', 'a session cannot be forked');
        absent(to);
        const source = get(from);
        this.effect();
        this.volumes.set(key(to), { dev: this.newFs().dev, nodes: new Map(source.nodes) });
      },
      rename: async (from, to) => {
        absent(to);
        const fs = get(from);
        this.effect();
        this.volumes.delete(key(from));
        this.volumes.set(key(to), fs);
      },
      path: key,
      mount: async (v, root) => ({ source: key(v), target: root, type: 'memory', options: 'rw' }),
      identity: async v => {
        const fs = this.volumes.get(key(v));
        return fs && identityIn(fs);
      },
      busyReason: held,
      remove: async v => {
        if (this.foreign.has(key(v)))
          throw new MayflyError('unsafe', `"${key(v)}" was not created by Mayfly`);
        const busy = this.volumes.has(key(v)) ? await held(v) : undefined;
        if (busy) throw new MayflyError('stuck', `"${key(v)}" is in use: ${busy}`);
        if (this.volumes.has(key(v))) this.effect();
        this.volumes.delete(key(v));
        if (this.seals.has(key(v))) this.effect();
        this.seals.delete(key(v));
      },
      seals: async pool => {
        const prefix = `${pool}/generation/`;
        const own = [...this.seals].filter(([k]) => k.startsWith(prefix));
        return new Map(own.map(([k, text]) => [Number(k.slice(prefix.length)), text]));
      },
      writeSeal: async (v, text) => {
        this.effect();
        this.seals.set(key(v), text);
      },
      isThere: () => this.isPoolThere,
      readMark: v => this.volumes.get(key(v))?.nodes.get(MARK)?.text,
      writeMark: (v, text) => {
        const { nodes } = get(v);
        this.effect();
        if (text === undefined) nodes.delete(MARK);
        else nodes.set(MARK, { kind: 'file', text, mode: 0o600, uid: 0, gid: 0, ino: 1 });
      },
      discard: async v => {
        const fs = this.volumes.get(key(v));
        await this.backend().remove(v);
        if (!fs) return;
        const name = `${key(v)}.${fs.dev}`;
        this.discarded.set(name, fs);
        this.effect(); // the process that erases it
        this.discarded.delete(name);
      },
      dissolve: async () => undefined,
      usage: pool => usageOf(this.host, pool),
      forkCost: async () => 0,
      list: async pool => ({
        volumes: (this.isPoolThere ? [...this.volumes.keys()] : [])
          .filter(k => k.startsWith(`${pool}/`))
          .map(k => {
            const [role = '', name = ''] = k.slice(pool.length + 1).split('/');
            return { backend: 'overlay' as const, pool, role: role as Role, name };
          }),
        leftovers: [],
        discarded: [...this.discarded.keys()]
          .filter(k => k.startsWith(`${pool}/`))
          .map(k => ({ name: k, session: /([^/.]+)\.\d+$/.exec(k)?.[1] ?? '', age: 0, deleted: false })),
        spares: new Map(),
      }),
      sweep: async (_pool, name) => {
        this.effect();
        this.discarded.delete(name);
      },
    };
  }

  /** A `Machine` on this world; its PID is that of the current process. */
  machine(): Machine {
    const config = readConfig(this.host, '/etc/mayfly/mayfly.toml');
    const host = { ...this.host, pid: this.pid };
    return {
      host,
      config,
      paths: pathsOf(config.directories),
      log: noLog,
      backend: () => this.backend(),
      lockFds: [],
    };
  }
}

/** Puts the smallest system that a session can have into a volume. */
function addSystem(fs: FileSystem): void {
  const add = (path: string, kind: 'file' | 'dir', text = ''): void => {
    fs.nodes.set(path, { kind, text, mode: kind === 'dir' ? 0o755 : 0o644, uid: 0, gid: 0, ino: 1 });
  };
  const directories = ['etc', 'run', 'home', 'tmp', 'var', 'var/tmp', 'proc', 'sys', 'dev', 'usr', 'usr/lib'];
  for (const path of directories) add(`/${path}`, 'dir');
  add('/etc/passwd', 'file', 'root:x:0:0::/root:/bin/sh\n');
  add('/etc/group', 'file', 'root:x:0:\naudio:x:29:\n');
  add('/etc/shadow', 'file', 'root:*::\n');
}

/** A world whose generation 1 is stable. */
export function preparedWorld(): World {
  const world = new World();
  const on = world.machine();
  const pool = { backend: 'overlay' as const, path: '/var/lib/mayfly/pool', mountPoint: '/' };
  const volume: Volume = { backend: 'overlay', pool: pool.path, role: 'generation', name: '1' };
  makeDirectories(world.host, on.paths);
  writePool(world.host, on.paths, pool);
  void on.backend('overlay').create(volume);
  const fs = world.volumes.get('/var/lib/mayfly/pool/generation/1');
  if (!fs) throw new Error('generation 1 was not made');
  addSystem(fs);
  const generation: Generation = {
    number: 1,
    volume,
    identity: identityIn(fs),
    created: '2026-01-01T00:00:00Z',
    origin: 'test',
  };
  writeGeneration(world.host, on.paths, generation, 'proven');
  world.host.symlink('generations/1.json', on.paths.stable);
  world.newProcess();
  return world;
}

/** The hook call of lightdm (process 50 of every world) at a login or logout. */
export function callOf(w: World, user: string, display: string): HookCall {
  const caller = identify(w.host, 50);
  if (!caller) throw new Error('no display manager');
  return { adapter: 'lightdm', user, display, caller };
}
