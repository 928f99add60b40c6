/** Package sources of a fresh Debian: the apt of this machine reads every form of sources.list(5). */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type AptTarget,
  acquireSettings,
  aptSources,
  chooseMirrors,
  parseUris,
  printUris,
  transportPackages,
} from '../../src/update/apt-sources.ts';
import { optionsOf, signingKeys } from '../../src/update/source-text.ts';
import { World } from '../world.ts';

let dir: string;
beforeAll(() => {
  dir = fs.mkdtempSync(`${tmpdir()}/mayfly-apt-`);
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

/** What this machine's apt says of a file with this text. */
function targetsOf(name: string, text: string): AptTarget[] {
  const file = `${dir}/${name}`;
  fs.writeFileSync(file, text);
  const out = execFileSync('apt-get', ['-o', 'APT::Architecture=amd64', ...printUris(file)], {
    encoding: 'utf8',
  });
  return parseUris(out).sort((a, b) => `${a.uri} ${a.release}`.localeCompare(`${b.uri} ${b.release}`));
}

const on = (uri: string, ...releases: string[]): AptTarget[] =>
  releases.map(release => ({ uri, release, components: ['main'] }));

describe('what apt has in force', () => {
  it.each([
    ['one line', 'a.list', 'deb http://m.invalid/d bookworm main', on('http://m.invalid/d', 'bookworm')],
    [
      'a line with options and a comment',
      'a.list',
      'deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] http://m.invalid/d bookworm main # c',
      on('http://m.invalid/d', 'bookworm'),
    ],
    ['a line that is commented out', 'a.list', '# deb http://m.invalid/d bookworm main\n', []],
    ['sources only', 'a.list', 'deb-src http://m.invalid/d bookworm main', []],
    [
      'components on lines of their own',
      'a.list',
      'deb http://m.invalid/d bookworm main\ndeb http://m.invalid/d bookworm contrib non-free',
      [{ uri: 'http://m.invalid/d', release: 'bookworm', components: ['main', 'contrib', 'non-free'] }],
    ],
    [
      'a list of mirrors in a file',
      'a.sources',
      'Types: deb\nURIs: mirror+file:///etc/apt/mirrors/d.list\nSuites: bookworm\nComponents: main\n',
      on('mirror+file:/etc/apt/mirrors/d.list', 'bookworm'),
    ],
    [
      'the old name of security',
      'a.list',
      'deb http://m.invalid/s buster/updates main',
      [...on('http://m.invalid/s', 'buster/updates')],
    ],
    ['a flat repository', 'a.list', 'deb [trusted=yes] file:/repo ./', []],
    [
      'a paragraph with continuation lines, comments and a key',
      'a.sources',
      'Types: deb deb-src\nURIs: http://a.invalid/d\n http://b.invalid/d\nSuites: bookworm\n# c\n bookworm-updates\nComponents: contrib\n main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n -----END PGP PUBLIC KEY BLOCK-----\n',
      [
        ...on('http://a.invalid/d', 'bookworm', 'bookworm-updates'),
        ...on('http://b.invalid/d', 'bookworm', 'bookworm-updates'),
      ].map(t => ({ ...t, components: ['contrib', 'main'] })),
    ],
    [
      'a paragraph that is disabled, and another',
      'a.sources',
      'Types: deb\nEnabled: no\nURIs: http://m.invalid/d\nSuites: bookworm\nComponents: main\n\nTypes: deb\nURIs: http://m.invalid/d\nSuites: trixie\nComponents: main\n',
      on('http://m.invalid/d', 'trixie'),
    ],
  ])('%s', (_what, name, text, expected) => expect(targetsOf(name, text)).toEqual(expected));
});

describe('what mmdebstrap is given', () => {
  const debian = { file: '/d', targets: on('http://m/debian', 'bookworm', 'bookworm-updates') };
  const security = { file: '/s', targets: on('http://m/security', 'bookworm-security') };
  const other = { file: '/o', targets: on('http://o/apt', 'nodistro') };
  const medium = { file: '/c', targets: on('cdrom://[Debian 12]', 'bookworm') };

  it.each([
    [
      'this release: the files that have it, as they are',
      [other, debian, security],
      'bookworm',
      ['/d', '/s'],
    ],
    [
      'another release: the archive of this one, with its updates',
      [other, security, debian],
      'trixie',
      ['http://m/debian', 'deb http://m/debian trixie-updates main'],
    ],
    [
      'another release: security fixes as well',
      [{ file: '/s', targets: on('http://m/debian-security', 'bookworm-security') }, debian],
      'trixie',
      [
        'http://m/debian',
        'deb http://m/debian-security trixie-security main',
        'deb http://m/debian trixie-updates main',
      ],
    ],
    ['a release that always changes has none', [debian], 'sid', ['http://m/debian']],
    [
      'a release by another name',
      [{ ...debian, targets: on('http://m/debian', 'stable') }],
      'bookworm',
      ['http://m/debian'],
    ],
    ['a medium among them: the others', [medium, debian, security], 'bookworm', ['/d', '/s']],
    [
      'a medium in the same file: the other lines of that file',
      [
        {
          file: '/d',
          targets: [...medium.targets, ...on('http://m/debian', 'bookworm'), ...security.targets],
          text: 'deb cdrom:[Debian 12]/ bookworm main\ndeb [trusted=yes] http://m/debian/ bookworm main',
        },
      ],
      'bookworm',
      ['deb [trusted=yes] http://m/debian bookworm main', 'deb http://m/security bookworm-security main'],
    ],
    ['nothing but a medium', [medium], 'bookworm', []],
    ['security alone', [security], 'bookworm', []],
    ['nothing', [], 'bookworm', []],
  ])('%s', (_what, all, suite, expected) =>
    expect(chooseMirrors(all, suite, { suite: 'bookworm', id: 'debian' })).toEqual(expected),
  );

  const chrome = { file: '/g', targets: on('https://dl.invalid/chrome/deb', 'stable') };
  const vpn = { file: '/v', targets: on('https://pkgs.invalid/stable/vpn', 'bookworm') };
  const origins = new Map([
    ['http://m/debian', 'Debian'],
    ['https://pkgs.invalid/stable/vpn', 'VPN'],
    ['mirror+file:/etc/apt/mirrors/d', 'Debian'],
  ]);
  const UPDATES = 'deb http://m/debian trixie-updates main';
  it.each([
    ['a browser is not Debian', [chrome], 'bookworm', []],
    ['nor for another release', [chrome, debian], 'trixie', ['http://m/debian', UPDATES]],
    ['nor what has a file for this release alone', [vpn], 'bookworm', []],
    ['which comes along with Debian', [vpn, debian], 'bookworm', ['/v', '/d']],
    ['and is not asked for another release', [vpn, debian], 'trixie', ['http://m/debian', UPDATES]],
    [
      'whose lists are on this machine',
      [{ file: '/d', targets: on('mirror+file:/etc/apt/mirrors/d', 'bookworm') }],
      'trixie',
      ['deb mirror+file:///etc/apt/mirrors/d trixie main'],
    ],
    [
      'options come along',
      [{ ...debian, text: 'deb [trusted=yes arch=amd64 signed-by=/k] http://m/debian/ bookworm main' }],
      'trixie',
      [
        'deb [trusted=yes signed-by=/k] http://m/debian trixie main',
        'deb [trusted=yes signed-by=/k] http://m/debian trixie-updates main',
      ],
    ],
    [
      'those of a paragraph as well',
      [
        {
          ...debian,
          text: 'Types: deb\nURIs: http://m/debian/\nCheck-Valid-Until: no\nSigned-By:\n /k/a.gpg\n /k/b.gpg\n',
        },
      ],
      'trixie',
      [
        'deb [check-valid-until=no signed-by=/k/a.gpg,/k/b.gpg] http://m/debian trixie main',
        'deb [check-valid-until=no signed-by=/k/a.gpg,/k/b.gpg] http://m/debian trixie-updates main',
      ],
    ],
  ])('%s', (_what, all, suite, expected) =>
    expect(chooseMirrors(all, suite, { suite: 'bookworm', id: 'debian' }, origins)).toEqual(expected),
  );

  it('are the settings of apt without which it gets nothing', () => {
    const wanted = [
      'Acquire::http::Proxy "http://p:3142";',
      'Acquire::http::proxy "http://p:3142";',
      'Acquire::http::Proxy::mirror.lab "DIRECT";',
      'Acquire::https::Proxy "http://p:3142";',
      'Acquire::Check-Valid-Until "false";',
      'Acquire::Check-Valid-Until::Debian "false";',
      'Acquire::Max-ValidTime "0";',
      'Acquire::https::CaInfo "/etc/lab/ca.pem";',
      'Acquire::https::mirror.lab::CAInfo "/etc/lab/ca.pem";',
      'Acquire::ForceIPv4 "true";',
    ];
    const others = [
      'APT "";',
      'Acquire::Languages "en";',
      'Acquire::http::Proxy-Auto-Detect "/x";',
      'X "y";',
    ];
    expect(acquireSettings([...others, ...wanted].join('\n'))).toEqual(wanted);
  });

  it.each([
    [['http://m/d'], []],
    [['https://m/d'], ['ca-certificates']],
    [['mirror+https://m/d'], ['ca-certificates']],
    [['deb [trusted=yes] https://m/d bookworm main'], ['ca-certificates']],
    [['http://a/d\nhttps://b/d priority:2\n'], ['ca-certificates']],
    [['tor+http://m.onion/d'], ['apt-transport-tor']],
    [['tor+https://m/d'], ['ca-certificates', 'apt-transport-tor']],
  ])('for %j, apt needs %j', (uris, packages) => expect(transportPackages(uris)).toEqual(packages));

  const M = 'http://m/debian';
  it.each([
    ['no options', `deb ${M} bookworm main`, ''],
    [
      'an address that goes on is another',
      `deb [trusted=yes] ${M}-security x main\ndeb ${M} bookworm main`,
      '',
    ],
    ['the entry of the release', `deb [trusted=yes] ${M} other main\ndeb ${M} bookworm main`, ''],
    ['a slash at the end', `deb [trusted=yes] ${M}/ bookworm main`, 'trusted=yes'],
    ['a line that is off', `# deb [trusted=yes] ${M} bookworm main`, ''],
    ['sources', `deb-src [trusted=yes] ${M} bookworm main`, ''],
    [
      'all that decide whether it is accepted',
      `deb [ arch=amd64 Check-Valid-Until=no lang=en allow-insecure=yes signed-by=/a.gpg,/b.gpg ] ${M} bookworm main`,
      'Check-Valid-Until=no allow-insecure=yes signed-by=/a.gpg,/b.gpg',
    ],
    [
      'a stanza among others',
      `Types: deb\nURIs: ${M}-security\nSuites: bookworm-security\nTrusted: yes\n\nTypes: deb\nURIs: http://x\n ${M}/\nSuites:\n bookworm\nsigned-by:\n /a.gpg\n# c\n /b.gpg\n`,
      'signed-by=/a.gpg,/b.gpg',
    ],
    ['one that is off', `Types: deb\nEnabled: No\nURIs: ${M}\nSuites: bookworm\nTrusted: yes\n`, ''],
    [
      'a fingerprint',
      `Types: deb\nURIs: ${M}\nSigned-By: 0123456789ABCDEF!\n`,
      'signed-by=0123456789ABCDEF!',
    ],
    ['a key in the stanza', `Types: deb\nURIs: ${M}\nSigned-By:\n -----BEGIN PGP\n .\n mQ==\n`, ''],
  ])('the options of an archive: %s', (_what, text, expected) =>
    expect(optionsOf(text, M, 'bookworm')).toBe(expected),
  );

  it.each([
    ['Signed-By:\n /k/a.gpg\n# c\n /k/b.gpg\nURIs: x', ['/k/a.gpg', '/k/b.gpg']],
    [
      'deb [arch=amd64 signed-by=/etc/apt/keyrings/lab.gpg] http://m/d bookworm main',
      ['/etc/apt/keyrings/lab.gpg'],
    ],
    ['deb [signed-by=/k/a.gpg,/k/b.asc arch=amd64] http://m/d x main', ['/k/a.gpg', '/k/b.asc']],
    ['Types: deb\nSigned-By: /k/a.gpg /k/b.gpg\nURIs: x', ['/k/a.gpg', '/k/b.gpg']],
    ['Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n mQ==', []],
    ['Signed-By: 0123456789ABCDEF0123456789ABCDEF01234567!', []],
    ['# deb [signed-by=/k/off.gpg] http://m/d x main', []],
    ['deb [signed-by=/k/$(reboot).gpg] http://m/d x main', []],
  ])('the keys in %j', (text, expected) => expect(signingKeys(text)).toEqual(expected));

  it('is asked of apt, file by file', async () => {
    const w = new World();
    w.put('/etc/os-release', 'VERSION_CODENAME=bookworm\n');
    for (const path of ['/etc/apt', '/k']) w.makeDirs(path);
    w.put('/etc/apt/sources.list', 'deb [signed-by=/k/lab.gpg] http://m/d bookworm main\n');
    w.put('/k/lab.gpg', 'key');
    const stdout = "'http://m/d/dists/bookworm/main/binary-amd64/Packages.xz' m_d_Packages 0 \n";
    const host = { ...w.host, run: async () => ({ code: 0, stdout, stderr: '' }) };
    const asked = await aptSources(host, 'bookworm');
    expect(asked).toEqual({
      ...{ mirrors: ['/etc/apt/sources.list'], keys: ['/k/lab.gpg'], settings: [], packages: [] },
    });
  });
});
