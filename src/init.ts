/**
 * The pool, the first master and generation 1.
 *
 * The tree is filled as the pool's `work` volume, sealed as a generation, and only then named master and stable. A
 * death at any point leaves a work copy or a generation that nothing points to; running it again removes both.
 */
import { type Config, parseSize } from './config.ts';
import { MayflyError } from './errors.ts';
import type { Command, Host } from './host.ts';
import { withLock } from './locks.ts';
import { mountPool } from './recover.ts';
import { prepareNext } from './session.ts';
import {
  type Generation,
  generationNumbers,
  makeDirectories,
  type Pool,
  pointStableAt,
  readPool,
  stableNumber,
  sweepTemporary,
  writeGeneration,
  writePool,
} from './state.ts';
import type { Machine } from './steps.ts';
import { type BackendKind, generationOf, masterOf, workOf } from './volume/backend.ts';

export type Source =
  | {
      readonly kind: 'debootstrap';
      readonly suite: string;
      readonly variant: string;
      readonly packages: readonly string[];
    }
  | { readonly kind: 'directory' | 'tarball'; readonly path: string }
  | { readonly kind: 'host' };

export interface InitOptions {
  readonly backend: BackendKind;
  readonly source: Source;
  /** Gets a line for each thing that happens; `detail` for what a long command says. */
  readonly say: (line: string, detail?: boolean) => void;
}

/** What of a running system is its own and not for a session: state, homes, mounts, secrets. Patterns of tar(1). */
export const NOT_FROM_HOST = [
  './proc/*',
  './sys/*',
  './dev/*',
  './run/*',
  './tmp/*',
  './var/tmp/*',
  './home/*',
  './root/*',
  './root/.[!.]*',
  './mnt/*',
  './media/*',
  './srv/*',
  './boot/*',
  './lost+found',
  './swapfile',
  './swap.img',
  './var/run/*',
  './var/lock/*',
  './var/log/*',
  './var/spool/*',
  './var/mail/*',
  './var/backups/*',
  './var/crash/*',
  './var/cache/*',
  './var/lib/apt/lists/*',
  './var/lib/mayfly',
  './var/lib/schroot/*',
  './var/lib/docker',
  './var/lib/containerd',
  './var/lib/containers',
  './var/lib/machines',
  './var/lib/lxc',
  './var/lib/lxd',
  './var/lib/libvirt',
  './var/lib/postgresql',
  './var/lib/mysql',
  './var/lib/systemd/random-seed',
  './var/lib/systemd/credential.secret',
  './var/lib/systemd/coredump/*',
  './var/lib/private/*',
  './var/lib/NetworkManager/*',
  './var/lib/bluetooth/*',
  './var/lib/sss/*',
  './var/lib/AccountsService/users/*',
  './etc/machine-id',
  './var/lib/dbus/machine-id',
  './etc/hostid',
  './etc/ssh/ssh_host_*',
  './etc/ssl/private/*',
  './etc/letsencrypt',
  './etc/krb5.keytab',
  './etc/NetworkManager/system-connections/*',
  './etc/wpa_supplicant/*.conf',
  './etc/ppp/*-secrets',
  './etc/wireguard/*',
  './etc/openvpn/*',
  './etc/mayfly',
  './etc/schroot/chroot.d/*',
  './etc/fstab',
  './etc/crypttab',
  './etc/shadow-',
  './etc/gshadow-',
  './etc/passwd-',
  './etc/group-',
  './etc/sudoers.d/*',
];

/** Makes all; throws `exists` where there is a stable generation already. Returns generation 1 (or the next number). */
export async function init(on: Machine, o: InitOptions): Promise<Generation> {
  const { host, paths } = on;
  makeDirectories(host, paths);
  return withLock(host, paths, 'update', 0, async () => {
    const stable = stableNumber(host, paths);
    if (stable !== undefined) {
      throw new MayflyError('exists', `"${paths.state}" is in use already: generation ${stable} is stable`, {
        generation: stable,
      });
    }
    const problem = (await on.backend(o.backend).check())[0];
    if (problem) throw new MayflyError('missing-tool', `${problem.what}; mend it with "${problem.mend}"`);
    await checkSource(host, o.source);
    const pool = await openPool(on, o);
    const backend = on.backend(pool.backend);

    const left = backend.list(pool.path);
    for (const name of [...left.litter, ...left.spares.values()]) await backend.sweep(pool.path, name);
    for (const number of generationNumbers(host, paths)) host.unlink(`${paths.generations}/${number}.json`);
    for (const v of left.volumes) {
      o.say(`removing what an earlier try left: ${v.role} ${v.name}`);
      await backend.remove(v);
    }

    const work = workOf(pool);
    await backend.create(work);
    const tree = backend.path(work);
    o.say(`filling ${tree} from ${describe(o.source)}`);
    await fill(host, tree, o, [pool.path, paths.state, paths.run]);
    finishTree(host, tree, o.source.kind === 'host' ? on.config.min_uid : undefined);

    const number = 1;
    o.say(`sealing generation ${number}`);
    const volume = generationOf(pool, number);
    await backend.fork(work, volume);
    const identity = backend.identity(volume);
    if (identity === undefined)
      throw new MayflyError('internal', `generation ${number} is not there after it was made`);
    const created = new Date(host.now()).toISOString();
    const generation: Generation = { number, volume, identity, created, origin: describe(o.source) };
    writeGeneration(host, paths, generation);
    backend.rename(work, masterOf(pool));
    host.sync(pool.path);
    pointStableAt(host, paths, number);
    await prepareNext(on);
    o.say(`generation ${number} is stable`);
    return generation;
  });
}

/** What a generation came from, for people. */
function describe(s: Source): string {
  switch (s.kind) {
    case 'debootstrap':
      return `debootstrap ${s.suite} (${s.variant}${s.packages.length > 0 ? `, with ${s.packages.join(', ')}` : ''})`;
    case 'host':
      return 'the running system';
    default:
      return `${s.kind} ${s.path}`;
  }
}

async function checkSource(host: Host, s: Source): Promise<void> {
  if (s.kind === 'directory' || s.kind === 'tarball') {
    const wanted = s.kind === 'directory' ? 'dir' : 'file';
    const there = host.stat(s.path);
    if (there?.kind !== wanted)
      throw new MayflyError('usage', `"${s.path}" is not a ${s.kind}`, { path: s.path });
    return;
  }
  const tool = s.kind === 'debootstrap' ? 'mmdebstrap' : 'tar';
  await host.run({ file: tool, args: ['--version'], effect: 'read' });
}

/** The pool on record, or the embedded default: a directory, or for btrfs an image file in one. */
async function openPool(on: Machine, o: InitOptions): Promise<Pool> {
  const { host, paths, config } = on;
  const known = readPool(host, paths);
  if (known && known.backend !== o.backend) {
    throw new MayflyError(
      'exists',
      `the pool "${known.path}" is a ${known.backend} one; "mayfly destroy" removes it`,
      { path: known.path },
    );
  }
  if (known) {
    await mountPool(on, known);
    await on.backend(known.backend).prepare(known.path);
    return known;
  }
  const { path } = config.pool;
  makeParents(host, path);
  host.mkdir(path, 0o700);
  let pool: Pool = { backend: o.backend, path };
  if (o.backend === 'btrfs' && !(await isBtrfs(host, path))) {
    const image = `${paths.state}/pool.img`;
    await makeImage(host, config, image, o.say);
    pool = { ...pool, image };
    writePool(host, paths, pool);
    await mountPool(on, pool);
  }
  await on.backend(o.backend).prepare(path);
  writePool(host, paths, pool);
  return pool;
}

function makeParents(host: Host, path: string): void {
  const parts = path.split('/').slice(1, -1);
  parts.reduce((above, part) => {
    if (host.stat(`${above}/${part}`) === undefined) host.mkdir(`${above}/${part}`, 0o755);
    return `${above}/${part}`;
  }, '');
}

async function isBtrfs(host: Host, path: string): Promise<boolean> {
  return (
    (await host.run({ file: 'stat', args: ['-f', '-c', '%T', '--', path], effect: 'read' })).stdout.trim() ===
    'btrfs'
  );
}

/** A sparse file with a btrfs in it, for machines whose disk is all one ext4. Under its name only when finished. */
async function makeImage(host: Host, config: Config, image: string, say: InitOptions['say']): Promise<void> {
  if (host.lstat(image)) return;
  const room = host.space(image.slice(0, image.lastIndexOf('/'))).free;
  const size = Math.min(parseSize(config.pool.image_size), Math.floor(room * 0.9));
  if (size < 512 * 2 ** 20) {
    throw new MayflyError('full', `there is not enough room for the pool's image "${image}"`, {
      path: image,
      free: room,
    });
  }
  say(`making a btrfs of ${Math.floor(size / 2 ** 20)} MiB in ${image}`);
  const aside = `${image}.new`;
  host.unlink(aside);
  await host.run({ file: 'truncate', args: ['-s', String(size), '--', aside], effect: 'write' });
  await host.run({ file: 'mkfs.btrfs', args: ['-q', '-L', 'mayfly', '--', aside], effect: 'write' });
  host.rename(aside, image);
}

/** `own`: our directories, which are no part of the system that is copied. */
async function fill(
  host: Host,
  tree: string,
  { source, say }: InitOptions,
  own: readonly string[],
): Promise<void> {
  const onLine = (line: string): void => say(line, true);
  switch (source.kind) {
    case 'directory':
      await host.run({
        file: 'cp',
        args: ['-a', '--reflink=auto', '--one-file-system', '-T', '--', source.path, tree],
        effect: 'write',
        onLine,
      });
      return;
    case 'tarball':
      await host.run({ ...untar(tree, source.path), onLine });
      return;
    case 'host':
      await host.run({ ...untar(tree, '-'), onLine, from: tarOfHost(host, own) });
      return;
    case 'debootstrap':
      await host.run({ ...mmdebstrap(source, tree, aptSources(host, source.suite)), onLine });
      return;
  }
}

function untar(tree: string, file: string): Command {
  const args = [
    '--extract',
    '--numeric-owner',
    '--preserve-permissions',
    '--acls',
    '--xattrs',
    '--xattrs-include=*',
    '--exclude=./dev/*',
    '-C',
    tree,
    '-f',
    file,
  ];
  return { file: 'tar', args, effect: 'write' };
}

/** /usr or /var can be file systems of their own; then each is named, as tar is kept from crossing into others. */
function tarOfHost(host: Host, own: readonly string[]): Pick<Command, 'file' | 'args' | 'expect'> {
  const separate = ['/usr', '/var', '/opt', '/usr/local', '/var/lib', '/etc'].filter(path => {
    const above = host.stat(path.slice(0, path.lastIndexOf('/')) || '/');
    const here = host.lstat(path);
    return here?.kind === 'dir' && here.dev !== above?.dev;
  });
  const exclude = [...NOT_FROM_HOST, ...own.map(path => `.${path}`)].map(pattern => `--exclude=${pattern}`);
  const options = [
    '--create',
    '--one-file-system',
    '--numeric-owner',
    '--acls',
    '--xattrs',
    '--xattrs-include=*',
    '--anchored',
    '--warning=no-file-changed',
    '--warning=no-file-removed',
  ];
  return {
    file: 'tar',
    args: [...options, ...exclude, '-C', '/', '-f', '-', '.', ...separate.map(path => `.${path}`)],
    expect: [0, 1],
  }; // 1: a file changed while it was read
}

function mmdebstrap(
  s: Extract<Source, { kind: 'debootstrap' }>,
  tree: string,
  sources: readonly string[],
): Command {
  const include = s.packages.length > 0 ? [`--include=${s.packages.join(',')}`] : [];
  return {
    file: 'mmdebstrap',
    args: [
      '--mode=root',
      '--format=directory',
      `--variant=${s.variant}`,
      ...include,
      s.suite,
      tree,
      ...sources,
    ],
    effect: 'write',
  };
}

/** The release this machine runs. */
export function hostSuite(host: Host): string | undefined {
  return /^VERSION_CODENAME="?([a-z0-9.-]+)"?$/m.exec(host.read('/etc/os-release') ?? '')?.[1];
}

/**
 * Where packages come from: apt's own sources. For this machine's release all of its Debian lines, security
 * included; for another release the first mirror they name.
 */
export function aptSources(host: Host, suite: string): string[] {
  const files = [
    '/etc/apt/sources.list',
    ...host
      .list('/etc/apt/sources.list.d')
      .filter(n => /\.(list|sources)$/.test(n))
      .map(n => `/etc/apt/sources.list.d/${n}`),
  ];
  const entries = files
    .flatMap(file => parseAptSources(host.read(file) ?? ''))
    .filter(e => e.components.includes('main'));
  const same = entries.filter(e =>
    e.suites.some(s => s === suite || s.startsWith(`${suite}-`) || s.startsWith(`${suite}/`)),
  );
  if (same.some(e => e.suites.includes(suite))) {
    return same.flatMap(e =>
      e.suites.filter(s => s.startsWith(suite)).map(s => `deb ${e.uri} ${s} ${e.components.join(' ')}`),
    );
  }
  const mirror = entries.find(e => !e.suites.some(s => s.includes('-security')))?.uri;
  return mirror === undefined ? [] : [mirror];
}

interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/** Both forms of sources.list(5): one line each, and paragraphs of fields. */
export function parseAptSources(text: string): AptSource[] {
  const words = (s: string | undefined): string[] => (s ?? '').split(/\s+/).filter(Boolean);
  const lines = text.split('\n').flatMap(line => {
    const m = /^\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s+(.*)$/.exec(line);
    return m ? [{ uri: m[1] ?? '', suites: [m[2] ?? ''], components: words(m[3]?.replace(/#.*/, '')) }] : [];
  });
  const paragraphs = text.split(/\n\s*\n/).flatMap(paragraph => {
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'mi').exec(paragraph)?.[1];
    if (!words(field('Types')).includes('deb') || /^no$/i.test(field('Enabled') ?? '')) return [];
    return words(field('URIs')).map(uri => ({
      uri,
      suites: words(field('Suites')),
      components: words(field('Components')),
    }));
  });
  return [...lines, ...paragraphs];
}

/** Refuses a tree that is not a system, and takes out what is only one machine's. */
function finishTree(host: Host, tree: string, minUid: number | undefined): void {
  for (const name of ['etc', 'usr', 'var']) {
    if (host.lstat(`${tree}/${name}`)?.kind !== 'dir') {
      throw new MayflyError('refused', `the tree is not a whole system: it has no directory "/${name}"`);
    }
  }
  for (const path of ['/etc/passwd', '/etc/group']) {
    if (host.lstat(tree + path)?.kind !== 'file') {
      throw new MayflyError('refused', `the tree is not a whole system: it has no "${path}"`, { path });
    }
  }
  if (host.lstat(`${tree}/bin/sh`) === undefined && host.lstat(`${tree}/usr/bin/sh`) === undefined) {
    throw new MayflyError('refused', 'the tree is not a whole system: it has no "/bin/sh"');
  }
  // Filled in by whoever boots or enters it; a copied one would make two machines one.
  host.write(`${tree}/etc/machine-id`, '', { mode: 0o444 });
  if (minUid !== undefined) forgetPeople(host, tree, minUid);
  sweepTemporary(host, `${tree}/etc`);
}

/** The host's own people, and every password: who logs in is written into their own session. */
function forgetPeople(host: Host, tree: string, minUid: number): void {
  const passwd = (host.read(`${tree}/etc/passwd`) ?? '').split('\n').filter(Boolean);
  const isPerson = (line: string): boolean => {
    const uid = Number(line.split(':')[2]);
    return uid >= minUid && uid !== 65534;
  };
  const people = new Set(passwd.filter(isPerson).map(line => line.split(':')[0]));
  host.write(`${tree}/etc/passwd`, `${passwd.filter(line => !isPerson(line)).join('\n')}\n`, { mode: 0o644 });
  for (const file of ['shadow', 'gshadow']) {
    const there = host.lstat(`${tree}/etc/${file}`);
    if (there?.kind !== 'file') continue;
    const lines = (host.read(`${tree}/etc/${file}`) ?? '')
      .split('\n')
      .filter(line => line !== '' && !people.has(line.split(':')[0]));
    const locked = lines.map(line => line.replace(/^([^:]*):[^:]*/, file === 'shadow' ? '$1:*' : '$1:!'));
    host.write(`${tree}/etc/${file}`, `${locked.join('\n')}\n`, { mode: 0o640, uid: 0, gid: there.gid });
  }
}
