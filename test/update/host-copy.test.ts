/**
 * A copy of the running system: what others cannot read stays behind, unless a package ships it unchanged or the
 * administrator names it. With real trees and the real tar(1).
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { schema } from '../../src/config/schema.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { withoutPeople } from '../../src/update/copied-accounts.ts';
import { copyHost, writeAccounts } from '../../src/update/host-copy.ts';
import { aclForms, fillTree } from '../../src/update/source.ts';
import { must } from '../system/lab.ts';

const place = fs.mkdtempSync(`${tmpdir()}/mayfly-host-copy-`);
afterAll(() => fs.rmSync(place, { recursive: true }));

const md5 = (text: string): string => createHash('md5').update(text).digest('hex');

interface Made {
  readonly text?: string;
  readonly mode: number;
  readonly uid?: number;
}

/** A small system: each path with its mode; those that end in "/" are directories. */
function makeRoot(root: string, all: Readonly<Record<string, Made | number>>): void {
  for (const [path, what] of Object.entries(all)) {
    const { mode, text = path, uid = 0 } = typeof what === 'number' ? { mode: what } : what;
    const at = root + path.replace(/\/$/, '');
    fs.mkdirSync(at.slice(0, at.lastIndexOf('/')), { recursive: true, mode: 0o755 });
    if (path.endsWith('/')) fs.mkdirSync(at, { recursive: true });
    else fs.writeFileSync(at, text);
    fs.chownSync(at, uid, uid);
    fs.chmodSync(at, mode);
  }
}

/** All paths in a tree; with what a file contains where `text`. */
function paths(tree: string): string[] {
  const found = execFileSync('find', [tree, '-mindepth', '1', '-printf', '/%P\\n'], { encoding: 'latin1' });
  return found.split('\n').filter(Boolean).sort();
}

const config = (keep: readonly string[] = []): Config =>
  ({ ...schema.parse({ init: { keep } }), files: [], directory: '/c' }) as Config;

let said: string[] = [];
beforeEach(() => {
  said = [];
});

async function copy(
  root: string,
  keep: readonly string[] = [],
  own: readonly string[] = [],
): Promise<string> {
  const tree = fs.mkdtempSync(`${place}/tree-`);
  const c = { host: realHost(), config: config(keep), root, tree, own, list: `${place}/list` };
  await copyHost({ ...c, say: (line, detail) => detail || said.push(line) });
  expect(fs.existsSync(`${place}/list`)).toBe(false);
  return tree;
}

describe.skipIf(process.getuid?.() !== 0)('a copy of the running system', () => {
  const root = `${place}/root`;
  const info = (name: string): string => `/var/lib/dpkg/info/${name}`;
  beforeAll(() => {
    makeRoot(root, {
      '/etc/hosts': 0o644,
      // private by their modes, wherever they are
      '/etc/sssd/sssd.conf': 0o600,
      '/etc/shadow.bak': 0o640,
      '/etc/security/opasswd': 0o600,
      '/crypto_keyfile.bin': 0o000,
      '/usr/local/bin/helper': { mode: 0o4711 },
      '/opt/app/secrets/': 0o750,
      '/opt/app/secrets/token': 0o644,
      '/opt/app/secrets/deep/': 0o755,
      '/opt/app/secrets/deep/link-me': 0o644,
      '/opt/by name/': 0o711,
      '/opt/by name/public': 0o644,
      '/opt/by name/private': 0o640,
      '/opt/* [a]?\\n b ': 0o600,
      '/opt/* [a]?\\n b': 0o644,
      // private by their place
      '/etc/.git/objects/aa': 0o644,
      '/etc/ssh/ssh_host_rsa_key.pub': 0o644,
      '/etc/ssl/private/': 0o710,
      '/etc/ssl/private/key.pem': 0o644,
      // shipped by packages
      '/etc/sudoers': { mode: 0o440, text: 'default' },
      '/etc/sudoers.d/': 0o750,
      '/etc/sudoers.d/README': { mode: 0o440, text: 'readme' },
      '/etc/sudoers.d/lab': 0o440,
      '/usr/bin/dumpcap': { mode: 0o750, text: 'program' },
      '/usr/bin/patched': { mode: 0o750, text: 'other' },
      '/usr/lib/moved.distrib': { mode: 0o700, text: 'diverted' },
      '/usr/lib/moved': { mode: 0o700, text: 'local' },
      '/etc/app/changed.conf': { mode: 0o640, text: 'password=1' },
      '/var/lib/polkit/': 0o700,
      '/var/lib/polkit/rules/': 0o700,
      '/var/lib/polkit/unknown/': 0o755,
      // a system's state
      '/var/log/app/': 0o755,
      '/var/log/app/log': 0o644,
      '/var/spool/cron/crontabs/': 0o1730,
      '/var/spool/cron/crontabs/alice': 0o600,
      '/var/cache/debconf/config.dat': 0o644,
      '/var/cache/debconf/passwords.dat': 0o600,
      '/var/cache/fontconfig/x.cache-7': 0o644,
      '/var/cache/apt/archives/a.deb': 0o644,
      '/home/alice/thesis': 0o644,
      '/root/.bashrc': 0o644,
      '/root/..odd': 0o644,
      '/data/bob/': { mode: 0o755, uid: 1002 },
      '/data/bob/thesis': 0o644,
      '/data/lab/': 0o755,
      '/data/lab/shared': { mode: 0o644, uid: 1002 },
      '/var/lib/mayfly/pool/x': 0o644,
      '/srv/pool/x': 0o644,
      '/pool/x': 0o644,
      // dpkg's
      [info('sudo.md5sums')]: {
        mode: 0o644,
        text: `${md5('program')}  bin/dumpcap\n${md5('x')}  usr/bin/patched\n`,
      },
      [info('polkit:amd64.list')]: { mode: 0o644, text: '/.\n/var/lib/polkit\n/var/lib/polkit/rules\n' },
      [info('lib.md5sums')]: { mode: 0o644, text: `${md5('diverted')}  usr/lib/moved\n` },
      '/var/lib/dpkg/diversions': { mode: 0o644, text: '/usr/lib/moved\n/usr/lib/moved.distrib\n:\n' },
      '/var/lib/dpkg/status': {
        mode: 0o644,
        text: `Package: sudo\nConffiles:\n /etc/sudoers ${md5('default')}\n /etc/sudoers.d/README ${md5('readme')}\n /etc/app/changed.conf ${md5('password=')} obsolete\n\n`,
      },
      '/etc/passwd': {
        mode: 0o644,
        text: 'root:x:0:0::/root:/bin/sh\nalice:x:1001:1001::/home/alice:/bin/sh\nbob:x:1002:1002::/data/bob:/bin/sh\n',
      },
      '/etc/group': { mode: 0o644, text: 'root:x:0:\n' },
      '/etc/shadow': { mode: 0o640, text: 'root:HASH:1::::::\nalice:HASH:1::::::\n' },
      '/etc/passwd-': 0o644,
    });
    fs.symlinkSync('usr/bin', `${root}/bin`);
    fs.symlinkSync('secrets/token', `${root}/opt/app/current`);
    fs.symlinkSync('/run', `${root}/var/run`);
    // Names that no program can be given as text: latin1. As UTF-8, the first two look the same.
    for (const [name, mode] of [
      ['priv\u00e8', 0o600],
      ['priv\u00e9', 0o600],
      ['pub\u00e9', 0o644],
    ] as const) {
      const at = Buffer.from(`${root}/opt/${name}`, 'latin1');
      fs.writeFileSync(at, 'x');
      fs.chmodSync(at, mode);
    }
    fs.writeFileSync(`${root}/opt/new\nline`, 'x', { mode: 0o600 });
  });

  it('has what others can read and what packages ship', async () => {
    const tree = await copy(root, [], ['/var/lib/mayfly', '/pool']);
    expect(paths(tree)).toEqual(
      [
        ...['/bin', '/data', '/data/lab', '/data/lab/shared', '/home', '/root', '/srv', '/usr', '/usr/bin'],
        ...['/etc', '/etc/app', '/etc/group', '/etc/hosts', '/etc/passwd', '/etc/security', '/etc/ssh'],
        ...[
          '/etc/ssl',
          '/etc/ssl/private',
          '/etc/sssd',
          '/etc/sudoers',
          '/etc/sudoers.d',
          '/etc/sudoers.d/README',
        ],
        ...['/opt', '/opt/* [a]?\\n b', '/opt/app', '/opt/app/current', '/opt/app/secrets', '/opt/by name'],
        ...[
          '/opt/by name/public',
          '/opt/pub\u00e9',
          '/usr/bin/dumpcap',
          '/usr/lib',
          '/usr/lib/moved.distrib',
        ],
        ...[
          '/usr/local',
          '/usr/local/bin',
          '/var',
          '/var/cache',
          '/var/cache/apt',
          '/var/cache/apt/archives',
        ],
        ...['/var/cache/debconf', '/var/cache/debconf/config.dat', '/var/cache/fontconfig'],
        ...['/var/cache/fontconfig/x.cache-7', '/var/lib', '/var/lib/dpkg', '/var/lib/dpkg/diversions'],
        ...['lib.md5sums', 'polkit:amd64.list', 'sudo.md5sums'].map(info),
        ...[
          '/var/lib/dpkg/info',
          '/var/lib/dpkg/status',
          '/var/lib/polkit',
          '/var/lib/polkit/rules',
          '/var/log',
        ],
        ...['/var/log/app', '/var/run', '/var/spool', '/var/spool/cron', '/var/spool/cron/crontabs'],
      ].sort(),
    );
    expect(fs.statSync(`${tree}/var/spool/cron/crontabs`).mode & 0o7777).toBe(0o1730);
    expect(said.filter(line => line.startsWith('not copied: ')).sort()).toEqual(
      [
        ...['/etc/sssd/sssd.conf', '/etc/shadow.bak', '/etc/security/opasswd', '/crypto_keyfile.bin'],
        ...['/usr/local/bin/helper', '/opt/by name/private', '/opt/* [a]?\\n b ', '/opt/new\nline'],
        ...['/etc/ssh/ssh_host_rsa_key.pub', '/etc/ssl/private/key.pem', '/etc/sudoers.d/lab'],
        ...['/usr/bin/patched', '/usr/lib/moved', '/etc/app/changed.conf', '/var/lib/polkit/unknown'],
        ...['/var/cache/debconf/passwords.dat', '/opt/priv\ufffd'],
      ]
        .map(path => `not copied: "${path}"`)
        .concat('not copied: "/opt/app/secrets" (3 paths)', 'not copied: "/etc/.git" (3 paths)')
        .sort(),
    );
  });

  it('has what the administrator names, also what is in no copy', async () => {
    const named = ['/etc/sssd', '/opt/app/secrets/token', '/root/.bashrc', '/bin/patched', '/nowhere'];
    const tree = await copy(root, named, ['/var/lib/mayfly', '/pool']);
    const more = ['/etc/sssd/sssd.conf', '/opt/app/secrets/token', '/root/.bashrc', '/usr/bin/patched'];
    for (const path of more) expect(fs.readFileSync(tree + path)).toEqual(fs.readFileSync(root + path));
    expect(fs.statSync(`${tree}/etc/sssd/sssd.conf`).mode & 0o7777).toBe(0o600);
    expect(fs.readdirSync(`${tree}/opt/app/secrets`)).toEqual(['token']);
    expect(fs.readdirSync(`${tree}/root`)).toEqual(['.bashrc']);
    expect(fs.readlinkSync(`${tree}/bin`)).toBe('usr/bin');
    expect(said).toContain(`"${root}/nowhere" is named in "keep" in [init], but does not exist`);
    expect(said.join('\n')).not.toMatch(/sssd\.conf|not copied: .*patched/);
  });

  it('leaves out what becomes private while it is made', async () => {
    const real = realHost();
    const tree = fs.mkdtempSync(`${place}/tree-`);
    const host: typeof real = {
      ...real,
      run: async c => {
        if (c.pipeFrom) makeRoot(root, { '/opt/late': 0o600 });
        return real.run(c);
      },
    };
    await copyHost({
      host,
      config: config(),
      root,
      tree,
      own: [],
      list: `${place}/list`,
      say: l => said.push(l),
    });
    fs.unlinkSync(`${root}/opt/late`);
    expect(fs.existsSync(`${tree}/opt/late`)).toBe(false);
    expect(said).toContain('not copied: "/opt/late"');
  });

  it('keeps holes, ACLs, capabilities and hard links', async () => {
    const from = `${place}/attributes`;
    makeRoot(from, { '/var/big': 0o644, '/opt/a': 0o644, '/opt/d/': 0o755, '/opt/d/in': 0o644 });
    must('truncate', ['-s', '2G', `${from}/var/big`]);
    fs.linkSync(`${from}/opt/a`, `${from}/opt/b`);
    setAcl(`${from}/opt/a`, 'access');
    setAcl(`${from}/opt/d`, 'default');
    const tree = await copy(from);
    expect(fs.statSync(`${tree}/var/big`)).toMatchObject({ size: 2 * 2 ** 30, blocks: expect.any(Number) });
    expect(fs.statSync(`${tree}/var/big`).blocks).toBeLessThan(100);
    expect(fs.statSync(`${tree}/opt/a`).ino).toBe(fs.statSync(`${tree}/opt/b`).ino);
    expect(aclsOf(tree)).toEqual(aclsOf(from));
  });
});

/** Sets an ACL for uid 1234, as the kernel stores it (acl(5)). */
function setAcl(path: string, kind: 'access' | 'default'): void {
  const perl = `my $n = 0xffffffff; my $v = pack("V(vvV)5", 2, 1,6,$n, 2,5,1234, 4,4,$n, 16,5,$n, 32,4,$n);
    require "syscall.ph" if 0; syscall(188, $ARGV[0], $ARGV[1], $v, length $v, 0) == 0 or die $!`;
  must('perl', ['-e', perl, '--', path, `system.posix_acl_${kind}`]);
}

/** The ACLs below /opt, in hex. */
function aclsOf(tree: string): string[] {
  const perl = `for my $p (glob "$ARGV[0]/opt/* $ARGV[0]/opt/d/*") { for my $k ("access", "default") {
    my $b = "\\0" x 100; my $n = syscall(191, $p, "system.posix_acl_$k", $b, 100);
    print substr($p, length $ARGV[0]), " $k ", unpack("H*", substr($b, 0, $n)), "\\n" if $n > 0; } }`;
  return execFileSync('perl', ['-e', perl, '--', tree], { encoding: 'utf8' }).split('\n').filter(Boolean);
}

describe.skipIf(process.getuid?.() !== 0 || process.arch !== 'x64')('ACLs in a tarball', () => {
  const from = `${place}/acls`;
  beforeAll(() => {
    makeRoot(from, { '/opt/a': 0o644, '/opt/b': 0o644, '/opt/d/': 0o755, '/opt/d/in': 0o644 });
    setAcl(`${from}/opt/a`, 'access');
    setAcl(`${from}/opt/d`, 'default');
  });

  it.each([
    ['extended attributes, as tools in Go write them', ['--no-acls', '--xattrs', '--xattrs-include=*']],
    ['ACL records', ['--acls']],
    ['both', ['--acls', '--xattrs', '--xattrs-include=*']],
  ])('that are %s are kept', async (_, options) => {
    const archive = `${place}/a.tar`;
    must('tar', ['-C', from, ...options, '-cf', archive, '.']);
    const tree = fs.mkdtempSync(`${place}/tree-`);
    const source = { kind: 'tarball', path: archive } as const;
    const say = (line: string): unknown => said.push(line);
    await fillTree(realHost(), tree, { source, say, config: config(), list: `${place}/list` }, []);
    expect(aclsOf(tree)).toEqual(aclsOf(from));
    expect(aclsOf(tree)).toHaveLength(2);
  });

  it.each([
    [
      'drwxr-xr-x+ 0/0 ./d\n  a: user::rwx\n-rw-r--r--* 0/0 ./f\n  x: 44 system.posix_acl_access\n',
      true,
      true,
    ],
    ['-rw-r--r--+ 0/0 ./f\n  a: user::rwx\n  x: 44 system.posix_acl_access\n', false, false],
    ['', false, false],
  ])('%j: records %s, attributes %s', (list, asRecords, asAttributes) =>
    expect(aclForms(list)).toEqual({ asRecords, asAttributes }),
  );
});

describe('account files without people', () => {
  const isPerson = (uid: number): boolean => uid >= 1000 && uid !== 65534;
  const passwd =
    'root:x:0:0::/root:/bin/sh\nwww:HASH:33:33::/:/bin/false\nalice:x:1001:1001::/home/alice:/bin/sh\nvideo:x:1002:1002::/h:/bin/sh\n';
  const all = withoutPeople(
    {
      passwd,
      group:
        'root:x:0:\nsudo:x:27:alice,www,someone\nalice:x:1001:\nvideo:HASH:44:alice\nlab:x:2000:alice,bob\n',
      shadow: 'root:HASH:1:0:99999:7:::\nwww:*:1::::::\nalice:HASH:1::::::\nghost:HASH:1::::::\n',
      gshadow: 'root:HASH::\nsudo:!:alice:alice,www\nalice:!::\nvideo:HASH:alice:alice\n',
      subuid:
        'alice:100000:65536\n1001:165536:65536\n0:300000:65536\nroot:200000:65536\nsomeone:400000:65536\n',
      subgid: undefined,
    },
    isPerson,
  );
  it.each([
    ['passwd', 'root:x:0:0::/root:/bin/sh\nwww:x:33:33::/:/bin/false\n'],
    ['group', 'root:x:0:\nsudo:x:27:www\nvideo:x:44:\nlab:x:2000:\n'],
    ['shadow', 'root:*:1:0:99999:7:::\nwww:*:1::::::\n'],
    ['gshadow', 'root:!::\nsudo:!::www\nvideo:!::\n'],
    ['subuid', '0:300000:65536\nroot:200000:65536\n'],
    ['subgid', undefined],
  ] as const)('%s', (name, text) => expect(all[name]).toBe(text));

  it('without shadow(5), passwords are in passwd(5) and go as well', () => {
    const { passwd: text, shadow } = withoutPeople(
      { passwd: 'root:HASH:0:0::/:/bin/sh\n', group: 'a:HASH:1:\n' },
      isPerson,
    );
    expect([text, shadow]).toEqual(['root:*:0:0::/:/bin/sh\n', undefined]);
  });

  it.skipIf(process.getuid?.() !== 0)(
    'are written with their modes; sudo works if the host’s rules are private',
    () => {
      const [from, tree] = [`${place}/accounts`, `${place}/accounts-tree`];
      makeRoot(from, {
        '/etc/passwd': { mode: 0o644, text: passwd },
        '/etc/group': 0o644,
        '/etc/shadow': { mode: 0o640, text: 'root:HASH:::::::\n' },
      });
      makeRoot(tree, { '/etc/x': 0o644, '/usr/bin/sudo': 0o4755 });
      fs.chownSync(`${from}/etc/shadow`, 0, 42);
      writeAccounts(realHost(), from, tree, config());
      expect(fs.statSync(`${tree}/etc/shadow`)).toMatchObject({ mode: 0o100640, uid: 0, gid: 42 });
      expect(fs.readFileSync(`${tree}/etc/shadow`, 'utf8')).toBe('root:*:::::::\n');
      expect(fs.readFileSync(`${tree}/etc/sudoers`, 'utf8')).toContain('@includedir /etc/sudoers.d\n');
      expect(fs.statSync(`${tree}/etc/sudoers`).mode & 0o7777).toBe(0o440);
    },
  );
});
