/** A master that nobody has tidied up gets its updates nevertheless, and each message names what is in the way. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Deb, Mirror } from './debs.ts';
import { forgetUsers, type Lab, MAYFLY, must, type Ran, sh, user } from './lab.ts';
import { attempt, closeQuickLab, loginWorks, quickLab, stable } from './updates.ts';

const A = 'mayfly-up';
const DEAD = 'deb http://127.0.0.1:1/dead nowhere main';
let lab: Lab;
let mirror: Mirror;

/** A version of a package that stands for a security fix: it is in the archive and not in master. */
let fixes = 0;
const fix = (): Deb => ({ name: 'lab-fix', version: String(++fixes) });

beforeAll(async () => {
  user(A);
  mirror = await Mirror.start();
  const kernel = (n: number): Deb => ({
    ...{ name: `linux-image-6.1.0-${n}-amd64`, version: `6.1.${n}-1` },
    files: { [`/boot/vmlinuz-6.1.0-${n}-amd64`]: 'x' },
  });
  mirror.add(
    fix(),
    ...[10, 11, 12, 13].map(kernel),
    { name: 'linux-image-amd64', version: '13', fields: ['Depends: linux-image-6.1.0-13-amd64'] },
    ...['1', '2'].map(version => ({ name: 'lab-held', version })),
    ...['1', '2'].map(version => ({
      ...{ name: 'lab-over-held', version, fields: [`Depends: lab-held (>= ${version})`] },
    })),
    { name: 'lab-dependency', version: '1' },
    { name: 'lab-unpacked', version: '1', fields: ['Depends: lab-dependency'] },
    { name: 'lab-auto', version: '1' },
  );
  lab = quickLab('btrfs', A);
  inMaster(root => {
    // Its own sources, so that files in master count; the proxy is how the mirror is reached, and nothing else.
    fs.rmSync(`${root}/etc/apt/sources.list.d`, { recursive: true, force: true });
    fs.mkdirSync(`${root}/etc/apt/sources.list.d`);
    put(root, '/etc/apt/sources.list', `${LINE}\n`);
    put(root, '/etc/apt/apt.conf.d/98direct', 'Acquire::http::Proxy::127.0.0.1 "DIRECT";\n');
  });
});
afterAll(() => {
  mirror.stop();
  closeQuickLab(lab);
  forgetUsers();
});

const LINE = 'deb [trusted=yes] http://mirror.invalid/debian ./';

function inMaster<T>(act: (root: string) => T): T {
  return act(`${lab.dir}/pool/master`);
}

function put(root: string, path: string, text: string, mode = 0o644): void {
  fs.writeFileSync(root + path, text);
  fs.chmodSync(root + path, mode);
}

/** Runs dpkg in master, as an administrator's script would. */
const dpkg = (...args: string[]): Ran => inMaster(root => sh('chroot', [root, 'dpkg', ...args]));
const unpack = (file: string): void => {
  inMaster(root => fs.copyFileSync(`${mirror.directory}/${file}`, `${root}/root/x.deb`));
  dpkg('--force-depends', '--unpack', '/root/x.deb');
  inMaster(root => fs.unlinkSync(`${root}/root/x.deb`));
};
const versionOf = (name: string): string =>
  inMaster(
    root => sh('chroot', [root, 'dpkg-query', '-W', '-f', `\${Version} \${db:Status-Status}`, name]).out,
  );

interface Night {
  readonly warnings: readonly string[];
}

/** An update with a security fix in the archive, which must arrive whatever else is in the way. */
function night(packages: readonly string[] = [], more = '', options: readonly string[] = []): Night {
  const newest = fix();
  mirror.add(newest);
  const proxy = /^proxy = .*$/m.exec(mirror.config)?.[0] ?? '';
  const list = JSON.stringify(['lab-fix', ...packages]);
  const r = attempt(lab, { options, update: `command = []\n${proxy}\npackages = ${list}\n${more}` });
  expect(r.err).not.toMatch(/an update failed/);
  expect(r).toMatchObject({ code: 0 });
  expect(versionOf('lab-fix')).toBe(`${newest.version} installed`);
  const { update } = JSON.parse(lab.mayfly('status', '--json').out);
  expect(update.history.result).toBe('promoted');
  return { warnings: update.history.warnings ?? [] };
}

describe('security fixes arrive', () => {
  it('on a tidy master, without warnings', () => {
    expect(night()).toEqual({ warnings: [] });
    loginWorks(lab, A);
  });

  it('with packages that are held, which are named', () => {
    unpack('lab-held_1_all.deb');
    unpack('lab-over-held_1_all.deb');
    dpkg('--configure', '-a');
    inMaster(root => must('chroot', [root, 'apt-mark', 'hold', 'lab-held']));
    const back = 'packages are kept back by apt: lab-over-held';
    expect(night(['lab-held']).warnings).toEqual([
      ...[back, 'packages are held and stay as they are: lab-held'],
    ]);
    const { warnings } = night(['lab-over-held']);
    expect(warnings).toEqual([
      back,
      'some of lab-fix, lab-over-held cannot be upgraded while packages are held: lab-held',
    ]);
    expect(versionOf('lab-held')).toBe('1 installed');
    inMaster(root => must('chroot', [root, 'apt-mark', 'unhold', 'lab-held']));
    night();
    expect(versionOf('lab-over-held')).toBe('2 installed');
  });

  it('with a package that was unpacked without its dependency, although master has no lists', () => {
    unpack('lab-unpacked_1_all.deb');
    inMaster(root => must('sh', ['-c', 'rm -f "$1"/var/lib/apt/lists/*_*', 'sh', root]));
    expect(night(['lab-unpacked']).warnings).toEqual([]);
    expect(versionOf('lab-unpacked')).toBe('1 installed');
    expect(versionOf('lab-dependency')).toBe('1 installed');
  });

  it('with a package in which dpkg was killed, also by a command of the administrator', () => {
    const proxy = /^proxy = "(.*)"$/m.exec(mirror.config)?.[1] ?? '';
    const apt = `apt-get -q -y -o Acquire::http::Proxy=${proxy}`;
    for (const [name, run] of [
      ['lab-killed', undefined],
      ['lab-killed-too', `${apt} update && ${apt} dist-upgrade`],
    ] as const) {
      mirror.add({ name, version: '1', postinst: '[ ! -e /root/kill ] || kill -9 $PPID' });
      inMaster(root => put(root, '/root/kill', ''));
      unpack(`${name}_1_all.deb`);
      dpkg('--configure', '-a');
      inMaster(root => fs.unlinkSync(`${root}/root/kill`));
      expect(versionOf(name)).toBe('1 half-configured');
      if (run === undefined) expect(night().warnings).toEqual([]);
      else {
        mirror.add(fix());
        expect(attempt(lab, { run })).toMatchObject({ code: 0 });
        expect(versionOf('lab-fix')).toBe(`${fixes} installed`);
      }
      expect(versionOf(name)).toBe('1 installed');
    }
  });

  it('with a package in which dpkg was killed while it unpacked', () => {
    mirror.add({ name: 'lab-half', version: '1' });
    unpack('lab-half_1_all.deb');
    dpkg('--configure', '-a');
    mirror.add({ name: 'lab-half', version: '2' });
    inMaster(root => {
      const status = fs.readFileSync(`${root}/var/lib/dpkg/status`, 'utf8');
      const half = status.replace(
        /^(Package: lab-half\nStatus: install) ok installed$/m,
        '$1 reinstreq half-installed',
      );
      fs.writeFileSync(`${root}/var/lib/dpkg/status`, half);
    });
    expect(versionOf('lab-half')).toMatch(/half-installed$/);
    expect(night().warnings).toEqual([]);
    expect(versionOf('lab-half')).toBe('2 installed');
  });

  it('although a kernel is removed that has the number of the running one', () => {
    const release = must('uname', ['-r']).trim();
    must('sh', [
      '-c',
      'cd "$1" && apt-get -qq download linux-base && mv linux-base_*.deb linux-base.deb',
      'sh',
      mirror.directory,
    ]);
    const kernel: Deb = {
      ...{ name: `linux-image-${release}`, version: '1', fields: ['Depends: linux-base'] },
      // As Debian's and Ubuntu's kernels have it.
      prerm: `[ "$1" != remove ] || linux-check-removal ${release}`,
      files: { [`/boot/vmlinuz-${release}`]: 'x' },
    };
    mirror.add(kernel, { name: 'lab-against', version: '1', fields: [`Conflicts: ${kernel.name}`] });
    night([kernel.name]);
    expect(versionOf(kernel.name)).toBe('1 installed');
    expect(night(['lab-against']).warnings).toEqual([]);
    expect(versionOf(kernel.name)).not.toBe('1 installed');
  });

  it('with repositories that are dead, cannot be read, or contradict others, of which each is named', () => {
    const dead: Readonly<Record<string, readonly [text: string, named: RegExp]>> = {
      'line.list': [`# x\n${DEAD}\n`, /line\.list:2 is .*Connection refused/],
      'paragraph.sources': [
        'Types: deb\nURIs: http://127.0.0.1:1/dead\nSuites: a\n b\nComponents: main\n',
        /paragraph\.sources \(deb http:\/\/127\.0\.0\.1:1\/dead a\) is .*Connection refused/,
      ],
      'type.list': [
        'debx http://127.0.0.1:1/dead nowhere main\n',
        /type\.list:1 is .*Type 'debx' is not known/,
      ],
      'fields.sources': [
        'Types: deb\nURIs: http://m.invalid/x\n',
        /fields\.sources \(deb http:\/\/m\.invalid\/x\) is/,
      ],
      'method.list': ['deb lab+http://m.invalid/x nowhere main\n', /method\.list:1 is .*lab\+http/],
      'key.list': [
        LINE.replace('trusted=yes', 'signed-by=/usr/share/keyrings/lab.gpg'),
        /key\.list:1 is .*E: /,
      ],
    };
    const places = Object.entries(dead).map(
      ([name, [text]]) => [`/etc/apt/sources.list.d/${name}`, text] as const,
    );
    inMaster(root => {
      for (const [path, text] of places) put(root, path, text);
    });
    const { warnings } = night();
    expect(warnings).toHaveLength(Object.keys(dead).length + 1);
    for (const [, named] of Object.values(dead)) {
      const warning = warnings.find(w => named.test(w)) ?? `${named} is not in ${warnings.join('\n')}`;
      expect(warning).toMatch(/^the package source \/etc\/apt\/.* is left out of this update: E: /);
    }
    for (const [path, text] of places) {
      expect(lab.inMaster(path)).toBe(text);
      inMaster(root => fs.unlinkSync(root + path));
    }
  });

  it('with a dead repository in the configuration', () => {
    const { warnings } = night([], `sources = [${JSON.stringify(LINE)}, ${JSON.stringify(DEAD)}]`);
    expect(warnings).toEqual([
      expect.stringMatching(/^the package source "sources" in \[update\]:2 is left/),
    ]);
  });

  it('with a file that a repository lists and does not have', () => {
    mirror.add({ name: 'lab-auto', version: '2' });
    night(['lab-auto']);
    mirror.add({ name: 'lab-auto', version: '3' });
    const packages = fs.readFileSync(`${mirror.directory}/Packages`, 'utf8');
    expect(packages).toMatch(/lab-auto_3/);
    mirror.hide('lab-auto_3_all.deb');
    const { warnings } = night();
    expect(warnings).toEqual([
      expect.stringMatching(/^an upgrade is left out: Failed to fetch .*lab-auto_3/),
    ]);
    expect(versionOf('lab-auto')).toBe('2 installed');
    mirror.hide(undefined);
    night();
  });

  it('with hooks of apt that ask or need a server, of which each is named, and the others run', () => {
    const hooks: readonly (readonly [name: string, list: string, script: string])[] = [
      ['terminal', 'DPkg::Pre-Install-Pkgs', 'cat >/dev/null; read answer </dev/tty'],
      ['input', 'DPkg::Pre-Invoke', 'read answer'],
      ['server', 'DPkg::Post-Invoke', 'exec 3<>/dev/tcp/127.0.0.1/1'],
      ['gone', 'DPkg::Pre-Invoke', 'exec /usr/bin/no-such-program'],
      ['before', 'APT::Update::Pre-Invoke', 'exit 3'],
      ['after', 'APT::Update::Post-Invoke-Success', 'exit 3'],
    ];
    inMaster(root => {
      put(root, '/usr/local/bin/lab-good', '#!/bin/sh\necho "$@" >>/var/log/lab-good\n', 0o755);
      for (const [name, list, script] of hooks) {
        put(root, `/usr/local/bin/lab-${name}`, `#!/bin/bash\n${script}\n`, 0o755);
        const text = `${list} {"/usr/local/bin/lab-good '${name} b'"; "/usr/local/bin/lab-${name} apt";};\n`;
        put(root, `/etc/apt/apt.conf.d/99lab-${name}`, text);
      }
    });
    const { warnings } = night();
    const named = hooks.map(
      ([name, list]) =>
        `a hook of apt has failed and is left out: ${list} "/usr/local/bin/lab-${name} apt" in /etc/apt/apt.conf.d/99lab-${name}`,
    );
    expect([...warnings].sort()).toEqual([...named].sort());
    for (const [name] of hooks) {
      expect(lab.inMaster('/var/log/lab-good')).toMatch(new RegExp(`^${name} b$`, 'm'));
      inMaster(root => fs.unlinkSync(`${root}/etc/apt/apt.conf.d/99lab-${name}`));
    }
  });

  it('with a hook that asks on the terminal of whoever starts the update', () => {
    inMaster(root => {
      put(root, '/usr/local/bin/lab-hook', '#!/bin/sh\ncat >/dev/null; read answer </dev/tty\n', 0o755);
      put(root, '/etc/apt/apt.conf.d/99lab', 'DPkg::Pre-Install-Pkgs {"/usr/local/bin/lab-hook";};\n');
    });
    lab.terminal = true;
    const { warnings } = night([], 'timeout = 600');
    lab.terminal = false;
    expect(warnings).toEqual([expect.stringMatching(/^a hook of apt has failed and is left out: /)]);
    inMaster(root => fs.unlinkSync(`${root}/etc/apt/apt.conf.d/99lab`));
  });

  it.each([
    ['no resolv.conf', undefined],
    ['a link to nowhere', '/etc/resolvconf/run/resolv.conf'],
    ['a link that climbs too far', '../../../run/NetworkManager/resolv.conf'],
    ['the file of a host that only root can read', '../run/systemd/resolve/stub-resolv.conf', 0o600],
    ['the same, and no resolv.conf', undefined, 0o600],
  ])('with %s, and maintainer scripts that need names and locks', (_what, target, mode = 0o644) => {
    inMaster(root => {
      fs.rmSync(`${root}/etc/resolv.conf`, { force: true });
      if (target !== undefined) fs.symlinkSync(target, `${root}/etc/resolv.conf`);
    });
    const host = fs.readFileSync('/etc/resolv.conf', 'utf8');
    const postinst = [
      'grep -q 192.0.2.1 /etc/resolv.conf || { echo "E: no resolver"; exit 1; }',
      'chroot --userspec=65534:65534 / cat /etc/resolv.conf >/dev/null || { echo "E: the resolver is private"; exit 1; }',
      'if (: >>/etc/resolv.conf) 2>/dev/null; then echo "E: the resolver can be written"; exit 1; fi',
      '[ -d /run/lock ] && : >/run/lock/lab && : >/var/lock/lab2',
    ].join('\n');
    mirror.add({ name: 'lab-names', version: String(++fixes), postinst });
    const resolver = `${lab.dir}/resolv.conf`;
    fs.writeFileSync(resolver, 'nameserver 192.0.2.1\n');
    fs.chmodSync(resolver, mode);
    lab.resolver = resolver;
    night(['lab-names']);
    lab.resolver = undefined;
    expect(fs.readFileSync(resolver, 'utf8')).toBe('nameserver 192.0.2.1\n');
    expect(fs.statSync(resolver).mode & 0o777).toBe(mode);
    expect(fs.readFileSync('/etc/resolv.conf', 'utf8')).toBe(host);
    inMaster(root => {
      const path = `${root}/etc/resolv.conf`;
      if (target === undefined) expect(fs.existsSync(path)).toBe(false);
      else expect(fs.readlinkSync(path)).toBe(target);
    });
  });

  it('with a pin that asks for an older version, which it gets', () => {
    for (const version of ['1', '2']) mirror.add({ name: 'lab-pinned', version });
    night(['lab-pinned']);
    const pin = (version: string): string =>
      `Package: lab-pinned\nPin: version ${version}\nPin-Priority: 1001\n`;
    inMaster(root => put(root, '/etc/apt/preferences.d/lab', pin('1')));
    expect(night().warnings).toEqual([]);
    expect(versionOf('lab-pinned')).toBe('1 installed');
    inMaster(root => put(root, '/etc/apt/preferences.d/lab', pin('no-such-version')));
    night();
    expect(versionOf('lab-pinned')).toBe('2 installed');
    inMaster(root => fs.unlinkSync(`${root}/etc/apt/preferences.d/lab`));
  });

  it('with packages of a repository that nobody has signed, which are not upgraded', async () => {
    const other = await Mirror.start();
    try {
      other.add({ name: 'lab-unsigned', version: '1' });
      const proxy = /"(.*)"$/.exec(other.config.trim())?.[1] ?? '';
      inMaster(root => {
        const bypass = `Acquire::http::Proxy::other.invalid "${proxy}";\n`;
        put(root, '/etc/apt/apt.conf.d/98other', bypass);
        const options = '[allow-insecure=yes]';
        put(root, '/etc/apt/sources.list.d/other.list', `deb ${options} http://other.invalid/x ./\n`);
        fs.copyFileSync(`${other.directory}/lab-unsigned_1_all.deb`, `${root}/root/x.deb`);
        must('chroot', [root, 'dpkg', '-i', '/root/x.deb']);
        fs.unlinkSync(`${root}/root/x.deb`);
      });
      other.add({ name: 'lab-unsigned', version: '2' });
      const { warnings } = night();
      expect(warnings).toEqual([expect.stringMatching(/lab-unsigned|other\.list:1 is left out/)]);
      expect(versionOf('lab-unsigned')).toBe('1 installed');
      expect(inMaster(root => must('chroot', [root, 'apt-mark', 'showhold']))).toBe('');
      inMaster(root => {
        fs.unlinkSync(`${root}/etc/apt/sources.list.d/other.list`);
        fs.unlinkSync(`${root}/etc/apt/apt.conf.d/98other`);
      });
    } finally {
      other.stop();
    }
  });

  it('and old kernels go, while what somebody asked for stays', () => {
    const all = [10, 11, 12, 13].map(n => `linux-image-6.1.0-${n}-amd64`);
    night(['linux-image-amd64', ...all, 'lab-auto']);
    inMaster(root => must('chroot', [root, 'apt-mark', 'auto', ...all, 'lab-auto']));
    night([], 'protect = ["linux-image-6.1.0-10-amd64"]');
    const installed = all.filter(name => versionOf(name).endsWith(' installed'));
    expect(installed).toEqual([0, 2, 3].map(i => all[i]));
    expect(versionOf('lab-auto')).toMatch(/ installed$/);
    night();
    expect(all.filter(name => versionOf(name).endsWith(' installed'))).toEqual(all.slice(2));
    loginWorks(lab, A);
  });
});

describe('what people were rolled back from', () => {
  const inStable = (name: string): string => {
    const format = `\${Version}`;
    return lab.mayfly('run', '--user', A, '--', 'dpkg-query', '-W', '-f', format, name).out;
  };

  it('does not come back with the next night, while security fixes do, until a newer version is there', () => {
    mirror.add({ name: 'lab-bad', version: '1' });
    night(['lab-bad']);
    loginWorks(lab, A);
    const good = stable(lab);
    mirror.add({ name: 'lab-bad', version: '2' }, { name: 'lab-bad-new', version: '1' });
    night(['lab-bad', 'lab-bad-new']);
    const bad = stable(lab);
    expect(inStable('lab-bad')).toBe('2');
    expect(lab.mayfly('diff').out).toMatch(
      new RegExp(
        `^generation ${good} -> ${bad}\\npackages: 1 new, 2 changed\\n {2}changed {2}lab-bad +1 -> 2\\n {2}new +lab-bad-new +1\\n {2}changed {2}lab-fix .*\\nfiles: `,
      ),
    );
    const said = lab.mayfly('rollback').err;
    expect(said).toContain(
      `updates start from generation ${good} now, and leave out what came with generation ${bad}`,
    );
    expect(inStable('lab-bad')).toBe('1');
    expect(lab.mayfly('gc').out).toContain(`removed generation ${bad}\n`); // what came with it is still known
    for (let again = 0; again < 2; again++) {
      const [warning = '', ...others] = night(['lab-bad']).warnings;
      expect(warning).toMatch(
        new RegExp(`^left out, because generation ${bad} was demoted: .*lab-bad 2.*--allow-demoted`),
      );
      expect(warning).not.toContain('lab-fix');
      expect(others).toEqual([]);
      expect([inStable('lab-bad'), inStable('lab-bad-new')]).toEqual(['1', '']);
      expect(inMaster(root => fs.readdirSync(`${root}/etc/apt/preferences.d`))).toEqual([]);
      loginWorks(lab, A);
    }
    mirror.add({ name: 'lab-bad', version: '3' });
    expect(night(['lab-bad']).warnings).toEqual([expect.stringMatching(/demoted: lab-bad-new 1 /)]);
    expect(inStable('lab-bad')).toBe('3');
    // Who names a package wants it.
    expect(night(['lab-bad-new']).warnings).toEqual([]);
    expect(inStable('lab-bad-new')).toBe('1');
    loginWorks(lab, A);
  });

  it('comes if the administrator allows it, or makes that generation stable again', () => {
    mirror.add({ name: 'lab-bad', version: '4' });
    night();
    const bad = stable(lab);
    const forth = (): void => {
      expect(lab.mayfly('rollback', String(bad)).code).toBe(0);
      expect(inStable('lab-bad')).toBe('4');
    };
    lab.mayfly('rollback');
    forth();
    expect(night().warnings).toEqual([]);
    loginWorks(lab, A);
    mirror.add({ name: 'lab-bad', version: '5' });
    night();
    lab.mayfly('rollback');
    expect(night().warnings).toEqual([expect.stringMatching(/demoted: lab-bad 5 /)]);
    expect(inStable('lab-bad')).toBe('4');
    expect(night([], '', ['--allow-demoted']).warnings).toEqual([]);
    expect(inStable('lab-bad')).toBe('5');
    expect(night().warnings).toEqual([]);
    loginWorks(lab, A);
  });

  it('is refused if a command of the administrator brings it', () => {
    const before = stable(lab);
    mirror.add({ name: 'lab-bad', version: '6' });
    night();
    lab.mayfly('rollback');
    const edit = 'sed -i "/^Package: lab-bad$/,/^$/s/^Version: 5$/Version: 6/" /var/lib/dpkg/status';
    const r = attempt(lab, { run: edit });
    expect(r.code).toBe(1);
    expect(r.err).toMatch(
      /it would bring back what is left out, because generation \d+ was demoted: lab-bad 6/,
    );
    expect(stable(lab)).toBe(before);
    expect(attempt(lab, { run: edit, options: ['--allow-demoted'] }).code).toBe(0);
    loginWorks(lab, A);
  });
});

it('without security fixes nothing is said to be well', () => {
  const before = versionOf('lab-fix');
  inMaster(root =>
    put(root, '/etc/apt/sources.list', `${LINE}\ndeb http://127.0.0.1:1/debian bookworm main\n`),
  );
  const proxy = /^proxy = .*$/m.exec(mirror.config)?.[0] ?? '';
  const r = attempt(lab, { update: `command = []\n${proxy}\n` });
  expect(r.code).toBe(1);
  expect(r.err).toMatch(/"apt-get update" failed with exit code 100: .*127\.0\.0\.1:1\/debian/);
  expect(versionOf('lab-fix')).toBe(before);
});

it('nothing of the caller reaches a copy or a session: variables, umask, limits', () => {
  const look = 'env | sort; umask; ulimit -f; ulimit -n; ulimit -v; touch /made; stat -c %a /made';
  const caller = 'umask 077; ulimit -S -f 64; ulimit -S -n 99; ulimit -S -v 60000000; exec "$@"';
  const strange = {
    TMPDIR: '/nowhere',
    HOME: '/nowhere',
    LC_ALL: 'xx_XX',
    SUDO_USER: 'xxx',
    PERL5OPT: '-Mno',
  };
  const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', TERM: 'xterm', ...strange };
  const call = (...args: string[]): Ran =>
    sh('sh', ['-c', caller, 'sh', 'node', MAYFLY, ...args, '--', 'sh', '-c', look], { env });
  for (const args of [
    ['enter', 'master', '--config', lab.config, '--discard'],
    ['run', '--config', lab.config],
    ['enter', '1', '--config', lab.config].map(word => (word === '1' ? String(stable(lab)) : word)),
  ]) {
    const r = call(...args);
    expect(r).toMatchObject({ code: 0 });
    expect(r.out).not.toMatch(/nowhere|xx_XX|SUDO|PERL5OPT|xxx/);
    expect(r.out).toMatch(/^TERM=xterm$/m);
    expect(r.out).toMatch(/^(0022|022)\nunlimited\n1024\nunlimited\n644$/m);
  }
  const run = `{ ${look}; } >/etc/seen`;
  lab.configure(`[update]\ncommand = ["sh", "-c", ${JSON.stringify(run)}]\n`);
  const r = sh('sh', ['-c', caller, 'sh', 'node', MAYFLY, 'update', '--config', lab.config], { env });
  lab.configure('');
  expect(r).toMatchObject({ code: 0 });
  expect(lab.inMaster('/etc/seen')).not.toMatch(/nowhere|xx_XX|SUDO|PERL5OPT|xxx/);
  expect(lab.inMaster('/etc/seen')).toMatch(/^HOME=\/root$/m);
  expect(lab.inMaster('/etc/seen')).toMatch(/^(0022|022)\nunlimited\n1024\nunlimited\n644$/m);
});
