/**
 * A whole Mayfly in a sandbox on the real machine: real trees, real schroot, real mounts, the real hook executables,
 * run the way a display manager runs them. Takes down all it made, and nothing else.
 */

import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { resolve } from 'node:path';
import { realHost } from '../../src/linux/real-host.ts';
import type { Session } from '../../src/state/sessions.ts';
import { chooseMirrors, hostSuite, parseUris, printUris, sourceFiles } from '../../src/update/apt-sources.ts';
import type { BackendKind } from '../../src/volume/backend.ts';

export const TOP = resolve(import.meta.dirname, '../..');
export const MAYFLY = `${TOP}/dist/mayfly.cjs`;
const CACHE = '/var/cache/mayfly-test';

/** What a hook is given besides what it needs: little, as by a display manager. */
const ENV = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/games', LANG: 'C' };

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function ran(r: SpawnSyncReturns<string>): Ran {
  return { code: r.status ?? 255, out: r.stdout ?? '', err: r.stderr ?? '' };
}

/** Runs a command with an array of arguments; never throws. */
export function sh(
  file: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; input?: Buffer } = {},
): Ran {
  const env = options.env ?? { ...ENV, PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  const { cwd = '/', input } = options;
  return ran(
    spawnSync(file, args, { encoding: 'utf8', cwd, env, maxBuffer: 2 ** 26, ...(input ? { input } : {}) }),
  );
}

/** The same as a person, on the host. */
export function shAs(name: string, command: readonly string[], options: Parameters<typeof sh>[2] = {}): Ran {
  return sh('setpriv', ['--reuid', name, '--regid', name, '--init-groups', ...command], options);
}

/** Runs and expects success; returns what it printed. */
export function must(file: string, args: readonly string[]): string {
  const r = sh(file, args);
  if (r.code !== 0) throw new Error(`${file} ${args.join(' ')}: exit code ${r.code}: ${r.err}`);
  return r.out;
}

/**
 * A file that is made once per machine and shared by all tests, also by those that run at the same time: `make` is
 * given where to put it. Returns its path.
 */
export function cached(name: string, make: (part: string) => void): string {
  const path = `${CACHE}/${name}`;
  if (fs.existsSync(path)) return path;
  fs.mkdirSync(CACHE, { recursive: true });
  const lock = fs.openSync(`${path}.lock`, 'w');
  try {
    // The lock belongs to the open file, which is ours too, and is given up with it.
    const taken = spawnSync('flock', ['3'], { stdio: ['ignore', 'ignore', 'inherit', lock] });
    if (taken.status !== 0) throw new Error(`${path}.lock can not be locked`);
    if (!fs.existsSync(path)) {
      const extension = /\.[a-z]+$/.exec(name)?.[0] ?? '';
      const part = `${CACHE}/part-${process.pid}${extension}`;
      try {
        make(part);
        fs.renameSync(part, path);
      } finally {
        fs.rmSync(part, { force: true });
      }
    }
  } finally {
    fs.closeSync(lock);
  }
  return path;
}

/** Makes a tarball with mmdebstrap from this machine's mirrors. */
function bootstrap(part: string, suite: string, words: readonly string[]): void {
  const files = sourceFiles(realHost()).map(file => ({
    file,
    targets: parseUris(must('apt-get', printUris(file))),
  }));
  const sources = chooseMirrors(files, suite, { suite: hostSuite(realHost()), id: 'debian' });
  must('mmdebstrap', ['--mode=root', ...words, suite, part, ...sources]);
}

const ownSuite = (): string => hostSuite(realHost()) ?? 'stable';
const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8);

/** A real minimal Debian with some packages, as a tarball, made once per machine, release and list of packages. */
export function tarball(name = 'tree', packages = 'sudo', suite = ownSuite()): string {
  return cached(`${suite}-${name}-${digestOf(packages)}.tar`, part =>
    bootstrap(part, suite, ['--variant=minbase', `--include=${packages}`]),
  );
}

/** The tree of what people do in a session. */
export const treeOfLogins = (): string => tarball('inside', 'sudo,cron,at,systemd-standalone-tmpfiles');

/** What some packages of a release have in the directory `path`, as a tarball; nothing is installed. */
export function filesOfPackages(packages: readonly string[], path: string, suite = ownSuite()): string {
  const extract = `export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; cd "$1"
    apt-get download -qq ${packages.join(' ')}
    for deb in *.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x ".${path}"; done
    find . -mindepth 1 -type f ! -path ".${path}/*" -delete`;
  return cached(`${suite}-files-${digestOf(extract)}.tar`, part =>
    bootstrap(part, suite, ['--variant=custom', '--skip=cleanup', `--customize-hook=${extract}`]),
  );
}

/** Temporary accounts of this machine; only those made here are deleted again. */
const made = new Set<string>();

export function user(name: string, options: readonly string[] = []): string {
  if (sh('id', ['-u', name]).code !== 0) {
    must('useradd', ['-m', '-d', `/home/${name}`, '-s', '/bin/sh', ...options, name]);
    made.add(name);
  }
  return name;
}

export function forgetUsers(): void {
  for (const name of made) {
    must('userdel', ['-r', '-f', name]);
    made.delete(name);
  }
}

export const uidOf = (name: string): number => Number(must('id', ['-u', name]));

/** What the tests of logins and updates run over; in user-mode Linux, LVM's two. */
export const BACKENDS = (process.env.MAYFLY_TEST_BACKENDS ?? 'overlay,btrfs').split(',') as BackendKind[];
/** A volume group for pools on LVM. */
const GROUP = process.env.MAYFLY_TEST_VG;

export const readAt = (path: string): string | undefined =>
  fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined;

const names = (path: string): string[] => {
  try {
    return fs.readdirSync(path).sort();
  } catch {
    return []; // it has just been removed
  }
};

/** Whether this is what is left of a deleted session until btrfs has freed its space: an empty directory or two. */
const isDeleted = (path: string): boolean =>
  path.includes('/.old-') && (!fs.existsSync(path) || names(path).some(n => /^\d+$/.test(n)));

export interface LabOptions {
  readonly backend: BackendKind;
  /** More lines for the configuration file. */
  readonly config?: string;
  readonly from?: string;
  /** Of the image a btrfs pool is in; sparse. */
  readonly imageSize?: string;
}

/** Runs a command on a terminal of its own, as an administrator does; its output is in one stream. */
const onTerminal = (argv: readonly string[]): Ran =>
  sh('script', ['-qec', argv.map(word => `'${word}'`).join(' '), '/dev/null']);

export class Lab {
  readonly dir: string;
  /** Whether the command line runs on a terminal. */
  terminal = false;
  /** A file that the command line finds in the place of /etc/resolv.conf. */
  resolver: string | undefined;
  readonly config: string;
  readonly #imageSize: string;
  /** Of this lab's thin pool, and what its volumes' names begin with. */
  get lvmName(): string {
    return `lab-${this.dir.slice(-6)}`;
  }

  constructor(o: Pick<LabOptions, 'config' | 'imageSize'> = {}) {
    this.#imageSize = o.imageSize ?? '2G';
    this.dir = fs.mkdtempSync('/var/lib/mayfly-test-');
    fs.chmodSync(this.dir, 0o755); // as /run and /var/lib are: people read their session's id below
    this.config = `${this.dir}/mayfly.toml`;
    this.configure(o.config ?? '');
  }

  /** Writes the configuration; `more` comes first, so that it can hold top-level options. */
  configure(more: string): void {
    const own = `[directories]\nstate = "${this.dir}/state"\nrun = "${this.dir}/run"\n`;
    const pool = more.includes('[pool]')
      ? more
      : `${more}\n[pool]\npath = "${this.dir}/pool"\nimage_size = "${this.#imageSize}"\n`;
    const lvm =
      GROUP === undefined || more.includes('[lvm]')
        ? ''
        : `[lvm]\ngroup = "${GROUP}"\nname = "${this.lvmName}"\npool_size = "2G"\nvolume_size = "1G"\n`;
    fs.writeFileSync(this.config, `${pool}\n${lvm}\n${own}`);
  }

  /** A lab with generation 1. */
  static make(o: LabOptions): Lab {
    const lab = new Lab(o);
    const r = lab.mayfly('init', '--backend', o.backend, '--from', o.from ?? tarball(), '--quiet');
    if (r.code !== 0) throw new Error(`init: ${r.err}`);
    return lab;
  }

  /** The command line of the built program. */
  mayfly(verb: string, ...args: string[]): Ran {
    const dashes = args.indexOf('--');
    const own = dashes < 0 ? args : args.slice(0, dashes);
    const rest = dashes < 0 ? [] : args.slice(dashes);
    const argv = [MAYFLY, verb, '--config', this.config, ...own, ...rest];
    if (this.resolver !== undefined) {
      // In a mount namespace of its own: the machine keeps its file.
      const script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
      const own = ['-m', '--propagation', 'slave', 'sh', '-c', script, this.resolver];
      return sh('unshare', [...own, 'node', ...argv]);
    }
    return this.terminal ? onTerminal(['node', ...argv]) : sh('node', argv);
  }

  /** The session wrapper where everybody can run it: the sources may lie where only root can look. */
  wrapper(): string {
    const path = `${this.dir}/session-wrapper`;
    fs.copyFileSync(`${TOP}/hooks/session-wrapper`, path);
    fs.chmodSync(path, 0o755);
    return path;
  }

  hookArgs(adapter: 'lightdm' | 'gdm', action: 'start' | 'stop'): [string, string[]] {
    const names = {
      lightdm: { start: 'session-setup', stop: 'session-cleanup' },
      gdm: { start: 'PreSession', stop: 'PostSession' },
    };
    return [`${TOP}/hooks/${adapter}/${names[adapter][action]}`, ['--config', this.config, '--quiet']];
  }

  /** Calls a hook executable as lightdm does; `env` replaces the environment but for PATH. */
  hook(action: 'start' | 'stop', name: string, display = ':0', env?: NodeJS.ProcessEnv): Ran {
    const [file, args] = this.hookArgs('lightdm', action);
    const own = env ?? {
      USER: name,
      LOGNAME: name,
      HOME: `/home/${name}`,
      SHELL: '/bin/sh',
      DISPLAY: display,
    };
    return sh(file, args, { env: { ...ENV, ...own } });
  }

  /** The same without waiting; resolves with what happened and how long it took, in milliseconds. */
  hookAsync(
    action: 'start' | 'stop',
    name: string,
    display = ':0',
  ): { pid: number; done: Promise<Ran & { ms: number }> } {
    const [file, args] = this.hookArgs('lightdm', action);
    const begun = performance.now();
    const child = spawn(file, args, {
      cwd: '/',
      env: { ...ENV, USER: name, DISPLAY: display },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let err = '';
    child.stderr.on('data', chunk => {
      err += chunk;
    });
    const done = new Promise<Ran & { ms: number }>(yes => {
      child.on('close', code => yes({ code: code ?? 255, out: '', err, ms: performance.now() - begun }));
    });
    return { pid: child.pid ?? 0, done };
  }

  session(name: string): Session | undefined {
    const own = this.records().filter(s => s.user.name === name && s.kind === 'login');
    return own.find(s => s.state !== 'ending') ?? own[0];
  }

  records(): Session[] {
    const directory = `${this.dir}/run/sessions`;
    if (!fs.existsSync(directory)) return [];
    const records = fs.readdirSync(directory).filter(name => !name.startsWith('.'));
    return records.flatMap(name => {
      try {
        return [JSON.parse(fs.readFileSync(`${directory}/${name}`, 'utf8')) as Session];
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // ended while we looked
        throw error;
      }
    });
  }

  /** A command inside, as the person, through the setuid schroot. */
  inside(name: string, ...command: string[]): Ran {
    const id = this.session(name)?.id ?? 'none';
    return shAs(name, ['schroot', '-d', '/', '-c', id, '--', ...command]);
  }

  /** The same as root inside: what a person who may use sudo can do. */
  rootInside(name: string, ...command: string[]): Ran {
    return sh('schroot', ['-d', '/', '-c', this.session(name)?.id ?? 'none', '-u', 'root', '--', ...command]);
  }

  /** Starts something inside that stays, as root or as the person; returns the pid of its schroot. */
  linger(name: string, asRoot: boolean, script: string): number {
    const id = this.session(name)?.id ?? 'none';
    const schroot = ['schroot', '-d', '/', '-c', id, '-u', asRoot ? 'root' : name, '--', 'sh', '-c', script];
    const child = spawn('setsid', ['-f', ...schroot], {
      cwd: '/',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
      stdio: 'ignore',
    });
    return child.pid ?? 0;
  }

  /**
   * Waits until the volumes of ended sessions are erased: a logout leaves that to a process of its own. What can not be
   * erased is seen by whoever looks next.
   */
  erased(): void {
    const sessions = `${this.dir}/pool/sessions`;
    const isErasing = (pid: string): boolean => {
      try {
        const words = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        return words.includes(`${sessions}/.old-`) && !words.includes('\x0060\x00'); // which waits for free space
      } catch {
        return false;
      }
    };
    // The programs that erase a volume end a little later than it does.
    const waiting = (): boolean =>
      names(sessions).some(n => n.startsWith('.old-') && !isDeleted(`${sessions}/${n}`)) ||
      names('/proc').some(n => /^\d+$/.test(n) && isErasing(n));
    const end = Date.now() + 5000 * SLOW;
    while (waiting() && Date.now() < end) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
  }

  /** Everything a session could leave, for comparison before and after. */
  picture(): Record<string, unknown> {
    this.erased();
    const mounts = fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(l => l.includes(this.dir));
    const cgroups = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified']
      .flatMap(d => (fs.existsSync(d) ? fs.readdirSync(d) : []))
      .filter(n => n.startsWith('mayfly'));
    const tree = (path: string, depth: number): string[] =>
      fs.existsSync(path) && fs.lstatSync(path).isDirectory()
        ? fs
            .readdirSync(path)
            .sort()
            .flatMap(n => [
              `${path}/${n}`.slice(this.dir.length),
              ...(depth > 0 ? tree(`${path}/${n}`, depth - 1) : []),
            ])
        : [];
    return {
      mounts: mounts.map(l => l.split(' ').slice(4, 5).join(' ')),
      loops: sh('losetup', ['-n', '-l', '-O', 'BACK-FILE'])
        .out.split('\n')
        .filter(l => l.includes(this.dir)),
      schroot: fs
        .readdirSync('/etc/schroot/chroot.d')
        .filter(
          f =>
            f.startsWith('mayfly-') &&
            fs.readFileSync(`/etc/schroot/chroot.d/${f}`, 'utf8').includes(this.dir),
        ),
      hidden: fs.readdirSync('/etc/schroot/chroot.d').filter(f => f.startsWith('.')),
      processes: this.processesInside(),
      stuck: this.records()
        .map(r => r.stuck ?? '')
        .filter(Boolean),
      cgroups: cgroups.filter(n => n.includes(this.dir.replaceAll('/', '.'))),
      state: tree(`${this.dir}/state`, 1).filter(p => !p.startsWith('/state/pool')),
      // The agent is the service's.
      run: tree(`${this.dir}/run`, 2).filter(p => !/^\/run\/(locks|health|refused\.json|agent)/.test(p)),
      // A spare comes and goes by itself; it is a part of the pool, not of a session.
      volumes: this.volumes(),
      pool: [
        ...tree(`${this.dir}/pool`, 0),
        ...tree(`${this.dir}/pool/sessions`, 0),
        ...tree(`${this.dir}/pool/generations`, 0),
      ].filter(p => !p.includes('/.spare-') && !isDeleted(this.dir + p)),
    };
  }

  /** A file in a generation, or undefined. */
  inGeneration(number: number, path: string): string | undefined {
    const directory = `${this.dir}/pool/generations/${number}`;
    return this.#inVolume(`generation:${number}`, directory, root => readAt(root + path));
  }

  inMaster(path: string): string | undefined {
    return this.withMaster(root => readAt(root + path));
  }

  withMaster<T>(act: (root: string) => T): T {
    return this.#inVolume('master:master', `${this.dir}/pool/master`, act);
  }

  #inVolume<T>(tag: string, directory: string, act: (root: string) => T): T {
    const volume = this.#tagged().find(([, tags]) => tags === `mayfly:${this.lvmName}:${tag}`)?.[0];
    if (volume === undefined) return act(directory);
    const at = `${this.dir}/at`;
    fs.mkdirSync(at);
    must('lvchange', ['-ay', '-K', `${GROUP}/${volume}`]);
    must('mount', ['-o', 'ro', `/dev/${GROUP}/${volume}`, at]);
    try {
      return act(at);
    } finally {
      must('umount', [at]);
      fs.rmdirSync(at);
      if (this.#tagged().every(([, , origin]) => origin !== volume || this.#isThin()))
        must('lvchange', ['-an', `${GROUP}/${volume}`]);
    }
  }

  #isThin(): boolean {
    return sh('lvs', [`${GROUP}/${this.lvmName}`]).code === 0;
  }

  /** Name, tags and origin of LVM's volumes. */
  #tagged(): [string, string, string][] {
    if (GROUP === undefined) return [];
    const out = must('lvs', ['--noheadings', '--separator', ' ', '-o', 'lv_name,lv_tags,origin', GROUP]);
    return out
      .split('\n')
      .map(line => line.trim().split(' '))
      .filter(([, tags]) => tags?.startsWith(`mayfly:${this.lvmName}:`))
      .map(([name = '', tags = '', origin = '']) => [name, tags, origin]);
  }

  /** When the volume of a session was forked, in milliseconds since the epoch: not before and not after. */
  async forkedAt({ id, volume }: Session): Promise<[number, number]> {
    if (GROUP === undefined) {
      // Nothing is created in this directory after the fork, which ends by creating or renaming something.
      const { ctimeMs } = await fs.promises.lstat(`${volume.pool}/sessions/${id}`);
      return [ctimeMs, ctimeMs];
    }
    const lv = this.#tagged().find(([, tags]) => tags === `mayfly:${this.lvmName}:session:${id}`)?.[0];
    const time = must('lvs', ['--noheadings', '-o', 'lv_time', `${GROUP}/${lv}`]);
    const second = Date.parse(time.trim());
    return [second, second + 1000];
  }

  /** What is in the pool, by kind. */
  inPool(): { generations: string[]; sessions: string[]; others: string[] } {
    this.erased();
    const rows = this.#tagged().map(([, tags]) => tags.split(':').slice(2));
    const of = (role: string): string[] => rows.flatMap(([r, n = '']) => (r === role ? [n] : [])).sort();
    if (rows.length > 0) {
      const known = ['generation', 'session', 'pool'];
      const others = rows.filter(([r = '']) => !known.includes(r)).map(([r = '']) => r);
      return { generations: of('generation'), sessions: of('session'), others: others.sort() };
    }
    const own = ['.mayfly-pool', 'generations', 'sessions'];
    return {
      generations: names(`${this.dir}/pool/generations`),
      sessions: names(`${this.dir}/pool/sessions`).filter(
        n => n !== 'CACHEDIR.TAG' && !n.startsWith('.spare-') && !isDeleted(`${this.dir}/pool/sessions/${n}`),
      ),
      others: names(`${this.dir}/pool`).filter(n => !own.includes(n)),
    };
  }

  /** Of LVM, with what must not change between two sessions: kind, activity, tags. */
  volumes(): string[] {
    if (GROUP === undefined) return [];
    const fields = 'lv_name,lv_attr,lv_tags,lv_suspended';
    const rows = must('lvs', ['--noheadings', '-a', '-o', fields, GROUP]).split('\n');
    const devices = must('dmsetup', ['info', '-c', '--noheadings', '-o', 'name,suspended']).split('\n');
    const name = this.lvmName.replaceAll('-', '--');
    return [
      ...rows.filter(r => r.includes(this.lvmName)).map(r => r.trim().replace(/\s+/g, ' ')),
      ...devices.filter(d => d.includes(name)),
    ].sort();
  }

  /** Pids whose root, directory or program lies below the lab. */
  processesInside(): number[] {
    const on = (pid: string): boolean =>
      ['root', 'cwd', 'exe'].some(what => {
        try {
          return fs.readlinkSync(`/proc/${pid}/${what}`).startsWith(`${this.dir}/`);
        } catch {
          return false;
        }
      });
    return fs
      .readdirSync('/proc')
      .filter(n => /^\d+$/.test(n) && on(n))
      .map(Number);
  }

  /** Ends all sessions, destroys the pool and removes the directory; throws where anything is left. */
  close(): void {
    this.configure(''); // whatever a test made of it
    for (const s of this.records()) this.mayfly('end', s.id);
    const recovered = this.mayfly('recover');
    const destroyed = this.mayfly('destroy', '--yes');
    if (destroyed.code !== 0 && !/there is no pool/.test(destroyed.err))
      throw new Error(`destroy: ${recovered.out}${destroyed.err}`);
    const left = fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter(l => l.includes(`${this.dir}/`));
    if (left.length > 0) throw new Error(`mounts are left: ${left.join('\n')}`);
    fs.rmSync(this.dir, { recursive: true }); // no mount is below, as just seen
  }
}

/** The command line without waiting for it, at the priority the timer's unit gives an update. */
export function spawnMayfly(lab: Lab, verb: string, ...args: string[]): Promise<Ran> {
  const child = spawn('nice', ['-n', '10', 'node', MAYFLY, verb, '--config', lab.config, ...args], {
    cwd: '/',
    env: { ...ENV, PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { out: '', err: '' };
  child.stdout.on('data', chunk => {
    said.out += chunk;
  });
  child.stderr.on('data', chunk => {
    said.err += chunk;
  });
  return new Promise(yes => {
    child.on('close', code => yes({ code: code ?? 255, ...said }));
  });
}

export const sleep = (ms: number): Promise<void> => new Promise(yes => setTimeout(yes, ms));

/** How much longer everything may take than on an idle machine: others may be at work on it, and emulators are slow. */
const SLOW = Number(process.env.MAYFLY_TEST_SLOW ?? 10);

/** Waits until `what` holds: `ms` is ample on an idle machine, and a tenth of what is waited for. */
export async function until(what: () => boolean, ms = 5000): Promise<void> {
  const end = Date.now() + ms * SLOW;
  while (!what()) {
    if (Date.now() > end) throw new Error(`not within ${ms * SLOW} ms: ${what}`);
    await sleep(10);
  }
}

/** Ends a process and everything it started that has not ended: a hook is sh, then node, with a child or two. */
export function killTree(pid: number): void {
  const children = (of: number): number[] => {
    try {
      return fs
        .readFileSync(`/proc/${of}/task/${of}/children`, 'utf8')
        .split(' ')
        .filter(Boolean)
        .map(Number);
    } catch {
      return [];
    }
  };
  const below = (of: number): number[] => [of, ...children(of).flatMap(below)];
  for (const p of below(pid)) {
    try {
      process.kill(p, 'SIGKILL');
    } catch {
      // it has ended by itself
    }
  }
}
