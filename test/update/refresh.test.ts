/** What an update makes of apt's words: hooks, entries of sources, old kernels, links to a resolver. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { MS } from '../../src/linux/mount-program.ts';
import { onlyEntries } from '../../src/update/apt-lists.ts';
import { failedHook, hooksIn, withFiles, withoutHooks } from '../../src/update/apt-runs.ts';
import { chrootMountOps } from '../../src/update/chroot-mounts.ts';
import { oldKernels } from '../../src/update/old-kernels.ts';
import { linkIntoRun } from '../../src/update/resolver.ts';
import { requiredEntries, sourceEntries } from '../../src/update/source-entries.ts';
import { listAfter, notFetched, removesEssential, unauthenticated } from '../../src/update/upgrade.ts';
import { World } from '../world.ts';

describe('hooks of apt', () => {
  it.each([
    ['E: Unable to locate package x', undefined],
    [
      "Setting up x\nE: Problem executing scripts DPkg::Post-Invoke 'a 'b; c'; d'\nE: Sub-process returned an error code",
      { list: 'DPkg::Post-Invoke', command: "a 'b; c'; d" },
    ],
    [
      "E: Problem executing scripts APT::Update::Post-Invoke-Success 'exit 3'",
      { list: 'APT::Update::Post-Invoke-Success', command: 'exit 3' },
    ],
    [
      'E: Sub-process /usr/sbin/apt-listbugs apt returned an error code (10)\nE: Failure running script /usr/sbin/apt-listbugs apt',
      { list: 'DPkg::Pre-Install-Pkgs', command: '/usr/sbin/apt-listbugs apt' },
    ],
  ])('%j names %j', (output, hook) => expect(failedHook(output)).toEqual(hook));

  it('are left out one by one; the others of the list and their order stay', () => {
    const all = hooksIn(
      'DPkg \nDPkg::Pre-Invoke \nDPkg::Pre-Invoke:: a "b"; c\nDPkg::Pre-Invoke:: bad\nDPkg::Pre-Invoke:: d\nDPkg::Post-Invoke:: e\nX y\n',
    );
    expect(all).toHaveLength(4);
    expect(withoutHooks(all, [])).toEqual({ files: {}, options: [] });
    const { files, options } = withoutHooks(all, [{ list: 'DPkg::Pre-Invoke', command: 'bad' }]);
    expect(Object.values(files)).toEqual([['#clear DPkg::Pre-Invoke;']]);
    expect(options).toEqual([
      ...['-c', Object.keys(files)[0]],
      ...['-o', 'DPkg::Pre-Invoke::=a "b"; c', '-o', 'DPkg::Pre-Invoke::=d'],
    ]);
  });

  it('and files of a run are no code', () => {
    const argv = withFiles({ '/run/a': ['$(reboot)', '--'], '/run/b': [] }, ['apt-get', 'update']);
    expect(argv.slice(3)).toEqual([
      ...['sh', '/run/a', '2', '$(reboot)', '--', '/run/b', '0', '--', 'apt-get', 'update'],
    ]);
    expect(withFiles({}, ['x'])).toEqual(['x']);
  });
});

describe('entries of sources', () => {
  const short = (file: string, text: string): string[] =>
    sourceEntries(file, text).map(e => `${e.where} ${e.isSource ? 'src ' : ''}[${e.uri}] [${e.release}]`);
  it.each([
    ['# c\n\n deb http://m/d bookworm main # c\n', ['a.list:3 [http://m/d] [bookworm]']],
    ['deb [arch=amd64 signed-by=/k] http://m/d ./', ['a.list:1 [http://m/d] [./]']],
    ['deb-src http://m/d bookworm main', ['a.list:1 src [http://m/d] [bookworm]']],
    ['debx nonsense', ['a.list:1 [] []']],
    ['deb cdrom:[Debian 12 - x]/ bookworm main', ['a.list:1 [cdrom:[Debian 12 - x]/] [bookworm]']],
  ])('the lines %j', (text, expected) => expect(short('a.list', text)).toEqual(expected));

  it('paragraphs: one for each type, address and release', () => {
    const text =
      'Types: deb deb-src\n# c\nURIs: http://a\n http://b\nSuites: x\nComponents: main\n\n \nEnabled: no\nTypes: deb\nURIs: http://off\nSuites: x\n\nTypes: deb\nURIs: http://c\nSuites: x\n x-backports\nSigned-By:\n /k\n';
    const entries = sourceEntries('/s.sources', text);
    expect(entries.map(e => e.where)).toEqual([
      ...['deb http://a x', 'deb http://b x', 'deb-src http://a x', 'deb-src http://b x'].map(
        w => `/s.sources (${w})`,
      ),
      ...['deb http://c x', 'deb http://c x-backports'].map(w => `/s.sources (${w})`),
    ]);
    expect(entries[5]?.text).toBe('Types: deb\nURIs: http://c\nSuites: x-backports\nSigned-By:\n /k');
    const { files } = onlyEntries([...entries.slice(4), ...sourceEntries('/l.list', 'deb http://l x main')]);
    const [list, stanzas] = Object.values(files);
    expect(list).toEqual(['deb http://l x main']);
    expect(stanzas?.filter(line => line === '')).toHaveLength(2);
  });

  const known = { ids: ['debian'], codename: 'bookworm' };
  const D = 'deb http://d/debian bookworm main';
  const S = 'deb http://s/debian-security bookworm-security main';
  it.each([
    ['Debian, whose lists say so', ['deb http://m/x bookworm main'], { 0: 'Debian' }, [0]],
    ['a browser, whose lists say so', [D, 'deb http://g stable main'], { 0: 'Debian', 1: 'Google' }, [0]],
    ['one that has never worked beside Debian', [D, 'deb http://vpn bookworm main'], { 0: 'Debian' }, [0]],
    ['security that has never worked', [D, S], { 0: 'Debian' }, [0, 1]],
    [
      'a mirror of security at the same host',
      ['deb http://m/d bookworm main', 'deb http://m/s bookworm-security main'],
      { 0: 'Debian' },
      [0, 1],
    ],
    [
      'backports that have been archived',
      [D, D.replace('bookworm', 'bookworm-backports')],
      { 0: 'Debian', 1: 'Debian' },
      [0],
    ],
    ['source packages', [D, D.replace('deb ', 'deb-src ')], { 0: 'Debian', 1: 'Debian' }, [0]],
    ['no lists at all: by the address', ['deb http://m/debian stable main', 'deb http://o/x y z'], {}, [0]],
    [
      'no lists at all: by the release',
      ['deb http://m/x bookworm-security main', 'deb http://o/x y main'],
      {},
      [0],
    ],
    ['a line that cannot be read', [D, 'debx'], {}, [0]],
  ] as const)('that an update needs: %s', (_what, lines, signed, expected) => {
    const entries = sourceEntries('l', lines.join('\n'));
    const origins = new Map(
      Object.entries(signed).map(([i, origin]) => [entries[Number(i)]?.where ?? '', origin]),
    );
    expect(requiredEntries(entries, { ...known, origins }).map(e => entries.indexOf(e))).toEqual(expected);
  });
});

describe('the rest', () => {
  const error = (stderr: string): MayflyError => new MayflyError('command', 'x', { stderr });
  it.each([
    [
      error('E: Failed to fetch u/a.deb  404\nE: Unable to fetch some archives, maybe run x'),
      ['Failed to fetch u/a.deb  404'],
    ],
    [error('dpkg: error processing x\nE: Failed to fetch u/a.deb  404\nE: Sub-process y'), []],
    [error('E: Unmet dependencies'), []],
    [new Error('x'), []],
  ])('%s: files that could not be had', (e, files) => expect(notFetched(e)).toEqual(files));

  it('names what apt refuses because nobody has signed it', () => {
    const output =
      'WARNING: The following packages cannot be authenticated!\n  a b:i386\n  c\nE: There were unauthenticated packages and -y was used without --allow-unauthenticated';
    expect(unauthenticated(error(output))).toEqual(['a', 'b:i386', 'c']);
    expect(unauthenticated(error('E: x'))).toEqual([]);
    expect(
      listAfter('The following packages have been kept back:\n  a\n  b c\n1 upgraded', /kept back:$/),
    ).toEqual([...['a', 'b', 'c']]);
  });

  it.each([
    ['E: Essential packages were removed and -y was used without --allow-remove-essential.', true],
    ['E: Removing essential system-critical packages is not permitted. This might break the system.', true],
    ['E: Unmet dependencies', false],
  ])('%j is a removal of what a system needs: %s', (output, is) => {
    expect(removesEssential(error(output))).toBe(is);
    expect(removesEssential(new Error(output))).toBe(false);
  });

  it.each([
    ['linux-image-6.1.0-10-amd64', true],
    ['linux-headers-6.1.0-10-common', true],
    ['linux-kbuild-6.1', true],
    ['linux-modules-extra-6.8.0-31-generic', true],
    ['linux-hwe-6.5-headers-6.5.0-14', true],
    ['linux-image-amd64', false],
    ['linux-libc-dev', false],
    ['libreoffice', false],
    ['linux-headers-amd64', false],
  ])('%s is a kernel of a version: %s', (name, is) =>
    expect(oldKernels([name], new Set()).length > 0).toBe(is),
  );
  it('and one that is protected stays', () =>
    expect(oldKernels(['linux-image-6.1.0-1-x'], new Set(['linux-image-6.1.0-1-x']))).toEqual([]));

  it.each([
    ['/run/systemd/resolve/stub-resolv.conf', '/run/systemd/resolve/stub-resolv.conf'],
    ['../run/x/resolv.conf', '/run/x/resolv.conf'],
    ['../../../run/x', '/run/x'],
    ['./../run/x', '/run/x'],
    ['/var/run/x', '/run/x'],
    ['../var/run/x', '/run/x'],
    ['/etc/resolvconf/run/resolv.conf', undefined],
    ['resolvconf/run/resolv.conf', undefined],
    ['run/x', undefined],
    ['/run/../etc/x', undefined],
    ['', undefined],
  ])('the link %j leads to %j in /run', (target, path) => expect(linkIntoRun(target)).toBe(path));
});

describe('the resolver in the copy', () => {
  const copy = { source: '/tree', target: '/work', type: 'none', options: 'bind,nodev' };
  function resolverOps(host: Readonly<Record<string, string>>, tree: Readonly<Record<string, string>>) {
    const w = new World();
    w.makeDirs('/tree/etc');
    for (const [path, text] of Object.entries({ ...host, ...tree })) {
      if (text.startsWith('->')) w.host.symlink(text.slice(2), path);
      else w.put(path, text, 0o600); // as with a umask of 077
    }
    const ops = chrootMountOps(w.host, copy, false);
    return ops.filter(c => c.target.includes('resolv') || (c.op === 'mount' && c.source.includes('resolv')));
  }
  const host = { '/etc/resolv.conf': 'nameserver 192.0.2.1\n' };

  it.each([
    ['a file', 'text', '/work/etc/resolv.conf'],
    [
      'a link into /run',
      '->../run/systemd/resolve/stub-resolv.conf',
      '/work/run/systemd/resolve/stub-resolv.conf',
    ],
  ])('is a text that everybody can read and nobody can write, in the place of %s', (_, text, target) => {
    const ops = resolverOps(host, { '/tree/etc/resolv.conf': text });
    expect(ops.find(c => c.op === 'make')).toEqual({
      op: 'make',
      target: '/work/run/mayfly-resolv.conf',
      entry: { type: 'f', mode: 0o644, uid: 0, gid: 0, data: 'nameserver 192.0.2.1\n' },
    });
    expect(ops.at(-1)).toMatchObject({
      op: 'mount',
      source: '/work/run/mayfly-resolv.conf',
      target,
      flags: MS.BIND | MS.RDONLY,
    });
    expect(ops.filter(c => c.op === 'mount')).toHaveLength(1); // the file of the host is nowhere
  });

  it.each<[string, Readonly<Record<string, string>>, Readonly<Record<string, string>>]>([
    ['the host has none', {}, { '/tree/etc/resolv.conf': '' }],
    ['the copy has no place for it', host, {}],
    ['the link of the copy leads elsewhere', host, { '/tree/etc/resolv.conf': '->/etc/resolvconf/run/x' }],
  ])('is not shown if %s', (_, there, tree) =>
    expect(resolverOps(there, tree).filter(c => c.op !== 'file' && c.op !== 'dir')).toEqual([]),
  );
});
