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
  signingKeys,
} from '../../src/update/apt-sources.ts';
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
    ['another release: the archive of this one', [other, security, debian], 'trixie', ['http://m/debian']],
    [
      'a release by another name',
      [{ ...debian, targets: on('http://m/debian', 'stable') }],
      'bookworm',
      ['http://m/debian'],
    ],
    ['a medium among them: the archive', [medium, debian, security], 'bookworm', ['http://m/debian']],
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
  ]);
  it.each([
    ['a browser is not Debian', [chrome], 'bookworm', []],
    ['nor for another release', [chrome, debian], 'trixie', ['http://m/debian']],
    ['nor what has a file for this release alone', [vpn], 'bookworm', []],
    ['which comes along with Debian', [vpn, debian], 'bookworm', ['/v', '/d']],
    ['and is not asked for another release', [vpn, debian], 'trixie', ['http://m/debian']],
    [
      'options come along',
      [{ ...debian, text: 'deb [trusted=yes arch=amd64 signed-by=/k] http://m/debian/ bookworm main' }],
      'trixie',
      ['deb [trusted=yes signed-by=/k] http://m/debian trixie main'],
    ],
    [
      'those of a paragraph as well',
      [
        {
          ...debian,
          text: 'Types: deb\nURIs: http://m/debian\nCheck-Valid-Until: no\nSigned-By:\n /k/a.gpg\n /k/b.gpg\n',
        },
      ],
      'trixie',
      ['deb [check-valid-until=no signed-by=/k/a.gpg,/k/b.gpg] http://m/debian trixie main'],
    ],
  ])('%s', (_what, all, suite, expected) =>
    expect(chooseMirrors(all, suite, { suite: 'bookworm', id: 'debian' }, origins)).toEqual(expected),
  );

  it('are the settings of apt without which it gets nothing', () => {
    const dump =
      'APT "";\nAcquire::http::Proxy "http://p:3142";\nAcquire::Check-Valid-Until "false";\nAcquire::Languages "en";\n';
    expect(acquireSettings(dump)).toEqual(dump.split('\n').slice(1, 3));
  });

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
    expect(asked).toEqual({ mirrors: ['/etc/apt/sources.list'], keys: ['/k/lab.gpg'], settings: [] });
  });
});
