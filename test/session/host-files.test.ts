/** The files of a session that are the host's, on real trees: the "host" is a directory, too. */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, it, onTestFinished } from 'vitest';
import { DEFAULT_COPY } from '../../src/config/shared-paths.ts';
import type { Host } from '../../src/linux/host.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { withCertificates } from '../../src/session/certificates.ts';
import { localeFile, otherMachineId } from '../../src/session/host-facts.ts';
import { copyHostFiles } from '../../src/session/host-files.ts';
import { namesLanguage, zoneOf } from '../../src/session/host-settings.ts';

const ID = `${'0123456789abcdef'.repeat(2)}\n`;
const OTHER = `${'f'.repeat(32)}\n`;
const pem = (text: string): string => `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`;

/** A host whose files are below `top`, and a session's tree beside it. Texts that begin with "->" are symlinks. */
function prepare(host: Record<string, string>, tree: Record<string, string>) {
  const top = fs.mkdtempSync(`${tmpdir()}/mayfly-files-`);
  onTestFinished(() => fs.rmSync(top, { recursive: true }));
  const root = `${top}/tree`;
  const write = (at: string, files: Record<string, string>): void => {
    for (const [path, text] of Object.entries(files)) {
      const directory = at + path.slice(0, path.lastIndexOf('/'));
      fs.mkdirSync(directory, { recursive: true });
      if (text.startsWith('->')) fs.symlinkSync(text.slice(2), at + path);
      else if (!path.endsWith('/')) fs.writeFileSync(at + path, text, 'latin1');
    }
  };
  const hasOther = Object.keys(host).some(path => path.startsWith('/etc/machine-id/'));
  write(`${top}/host`, { ...(hasOther ? {} : { '/etc/machine-id': ID }), ...host });
  write(root, { '/etc/': '', ...tree });
  const real = realHost();
  const moved = (path: string): string =>
    path.startsWith('/') && !path.startsWith(top) ? `${top}/host${path}` : path;
  const names = ['read', 'list', 'lstat', 'stat', 'exists', 'pathType', 'readlink'] as const;
  const looks = names.map(name => [name, (path: string) => real[name](moved(path))]);
  const run: Host['run'] = c => real.run({ ...c, args: c.args.map(moved) });
  const seen = (path: string): string | undefined => {
    const link = real.readlink(root + path);
    if (link !== undefined) return `->${link}`;
    return fs.existsSync(root + path) ? fs.readFileSync(root + path, 'latin1') : undefined;
  };
  const on = {
    host: { ...real, ...Object.fromEntries(looks), run },
    config: { identity: { copy: DEFAULT_COPY } },
  };
  return { root, seen, copy: () => copyHostFiles(on as never, root) };
}

/** `expected` is what the tree has at `path` afterwards. */
type Row = [string, Record<string, string>, Record<string, string>, string, string | undefined];

const LOCALE = '/etc/default/locale';
const GERMAN = 'LANG="de_DE.UTF-8"\n';
const ZONE = '/usr/share/zoneinfo/Europe/Berlin';
const CERTIFICATES = '/usr/local/share/ca-certificates';
const KERNEL_NAME = '/proc/sys/kernel/hostname';
const BUNDLE = '/etc/ssl/certs/ca-certificates.crt';

const rows: Row[] = [
  ['the machine’s ID', {}, { '/etc/machine-id': OTHER }, '/etc/machine-id', ID],
  ['the machine’s ID, where the tree has none', {}, {}, '/etc/machine-id', ID],
  ['the ID of D-Bus on a machine without systemd', { '/etc/machine-id': '', '/var/lib/dbus/machine-id': OTHER }, {}, '/etc/machine-id', OTHER],
  ['the machine’s ID for D-Bus', {}, { '/var/lib/dbus/machine-id': OTHER }, '/var/lib/dbus/machine-id', '->/etc/machine-id'],
  ['nothing of D-Bus, if the tree does not have it', {}, {}, '/var/lib/dbus', undefined],
  ['the time zone', { '/etc/localtime': `->..${ZONE}`, [ZONE]: 'TZif' }, { [ZONE]: '', '/etc/localtime': '->/usr/share/zoneinfo/Etc/UTC' }, '/etc/localtime', `->${ZONE}`],
  ['its name', { '/etc/localtime': `->..${ZONE}`, [ZONE]: 'TZif' }, { [ZONE]: '', '/etc/timezone': 'Etc/UTC\n' }, '/etc/timezone', 'Europe/Berlin\n'],
  ['no name of it, if the tree has none', { '/etc/localtime': `->..${ZONE}`, [ZONE]: 'TZif' }, { [ZONE]: '' }, '/etc/timezone', undefined],
  ['a time zone that is no text', { '/etc/localtime': 'TZif\xff\0' }, { '/etc/localtime': `->${ZONE}` }, '/etc/localtime', 'TZif\xff\0'],
  ['universal time, if it has no zones', { '/etc/localtime': '->../usr/share/zoneinfo/Etc/UTC', '/usr/share/zoneinfo/Etc/UTC': 'TZif' }, {}, '/etc/localtime', undefined],
  ['universal time, if it has no zones but a time', { '/etc/localtime': '->../usr/share/zoneinfo/Etc/UTC', '/usr/share/zoneinfo/Etc/UTC': 'TZif' }, { '/etc/localtime': 'Berlin' }, '/etc/localtime', 'TZif'],
  ['the language, if the tree has it and has chosen none', { [LOCALE]: GERMAN }, { '/usr/lib/locale/de_DE.utf8/x': '' }, LOCALE, GERMAN],
  ['the language of an archive', { [LOCALE]: GERMAN }, { '/usr/lib/locale/locale-archive': '\0de_DE.utf8\0', [LOCALE]: 'LANG=C.UTF-8\n' }, LOCALE, GERMAN],
  ['no language that the tree lacks', { [LOCALE]: GERMAN }, { '/usr/lib/locale/locale-archive': '\0fr_FR.utf8\0' }, LOCALE, undefined],
  ['the tree’s own language', { [LOCALE]: GERMAN }, { '/usr/lib/locale/de_DE.utf8/x': '', [LOCALE]: 'LANG=fr_FR.UTF-8\n' }, LOCALE, 'LANG=fr_FR.UTF-8\n'],
  ['no C instead of the C of the tree', { [LOCALE]: 'LANG=C\n' }, { [LOCALE]: 'LANG=C.UTF-8\n' }, LOCALE, 'LANG=C.UTF-8\n'],
  ['the keyboard', { '/etc/default/keyboard': 'XKBLAYOUT=de\n' }, { '/etc/default/keyboard': 'XKBLAYOUT=us\n' }, '/etc/default/keyboard', 'XKBLAYOUT=de\n'],
  ['the print server', { '/etc/cups/client.conf': 'ServerName cups\n' }, {}, '/etc/cups/client.conf', 'ServerName cups\n'],
  ['no print server, where the host has none', {}, { '/etc/cups/client.conf': 'ServerName own\n' }, '/etc/cups/client.conf', 'ServerName own\n'],
  ['nothing behind a symlink', { '/etc/cups/client.conf': 'ServerName cups\n' }, { '/etc/cups': '->../srv', '/srv/x': '' }, '/srv/client.conf', undefined],
  ['Kerberos', { '/etc/krb5.conf': '[libdefaults]\n' }, { '/etc/krb5.conf': 'mit\n' }, '/etc/krb5.conf', '[libdefaults]\n'],
  ['what Kerberos includes', { '/etc/krb5.conf': 'includedir /etc/krb5.conf.d/\n', '/etc/krb5.conf.d/lab': 'lab\n' }, {}, '/etc/krb5.conf.d/lab', 'lab\n'],
  ['a file that Kerberos includes', { '/etc/krb5.conf': 'include /etc/krb5/lab\n', '/etc/krb5/lab': 'lab\n' }, {}, '/etc/krb5/lab', 'lab\n'],
  ['certificates', { [`${CERTIFICATES}/uni/lab.crt`]: pem('lab') }, { '/etc/ssl/certs/': '' }, `${CERTIFICATES}/uni/lab.crt`, pem('lab')],
  ['no certificates, if nothing in the tree reads them', { [`${CERTIFICATES}/lab.crt`]: pem('lab') }, {}, `${CERTIFICATES}/lab.crt`, undefined],
  ['a certificate that was renewed', { [`${CERTIFICATES}/lab.crt`]: pem('new') }, { [BUNDLE]: pem('old'), [`${CERTIFICATES}/lab.crt`]: pem('old') }, BUNDLE, pem('old') + pem('new')],
  ['certificates among those of the tree', { [`${CERTIFICATES}/lab.crt`]: pem('lab') }, { [BUNDLE]: pem('mozilla') }, BUNDLE, pem('mozilla') + pem('lab')],
  ['each certificate once', { [`${CERTIFICATES}/lab.crt`]: pem('lab') }, { [BUNDLE]: pem('lab') }, BUNDLE, pem('lab')],
  ['the name that the kernel has, on a host without a file', { [KERNEL_NAME]: 'lab-1\n' }, { '/etc/hostname': 'builder\n' }, '/etc/hostname', 'lab-1\n'],
  ['it, where the file is a symlink to nothing', { [KERNEL_NAME]: 'lab-1\n', '/etc/hostname': '->/nowhere' }, { '/etc/hostname': 'builder\n' }, '/etc/hostname', 'lab-1\n'],
  ['it, where the file is a directory', { [KERNEL_NAME]: 'lab-1\n', '/etc/hostname/x': '' }, { '/etc/hostname': 'builder\n' }, '/etc/hostname', 'lab-1\n'],
  ['an empty name, where the host has that', { [KERNEL_NAME]: 'lab-1\n', '/etc/hostname': '' }, { '/etc/hostname': 'builder\n' }, '/etc/hostname', ''],
  ['no name servers of another place', {}, { '/etc/resolv.conf': 'nameserver 9.9.9.9\n' }, '/etc/resolv.conf', ''],
  ['none, where the symlink of the host leads to nothing yet', { '/etc/resolv.conf': '->../run/systemd/resolve/stub-resolv.conf' }, { '/etc/resolv.conf': 'nameserver 9.9.9.9\n' }, '/etc/resolv.conf', ''],
  ['none, where the host has a directory', { '/etc/resolv.conf/x': '' }, { '/etc/resolv.conf': 'nameserver 9.9.9.9\n' }, '/etc/resolv.conf', ''],
  ['no file of name servers, if neither has one', {}, {}, '/etc/resolv.conf', undefined],
  ['UTC, on a host without a time zone', {}, { '/etc/localtime': `->${ZONE}`, [ZONE]: '' }, '/etc/localtime', undefined],
  ['its name', {}, { '/etc/localtime': `->${ZONE}`, [ZONE]: '', '/etc/timezone': 'Europe/Berlin\n' }, '/etc/timezone', 'Etc/UTC\n'],
  ['UTC, where the host has a directory', { '/etc/localtime/x': '' }, { '/etc/localtime': `->${ZONE}`, [ZONE]: '' }, '/etc/localtime', undefined],
  ['the zone that a host without zones names', { '/etc/localtime': `->..${ZONE}` }, { '/etc/localtime': '->/usr/share/zoneinfo/Etc/UTC', [ZONE]: '' }, '/etc/localtime', `->${ZONE}`],
  ['the name of a zone that is no symlink', { '/etc/localtime': 'TZif', '/etc/timezone': 'Asia/Tokyo\n' }, { '/etc/timezone': 'Etc/UTC\n' }, '/etc/timezone', 'Asia/Tokyo\n'],
  ['no name of another zone', { '/etc/localtime': 'TZif' }, { '/etc/timezone': 'Etc/UTC\n' }, '/etc/timezone', undefined],
  ['its own list of hosts, where the host has none', {}, { '/etc/hosts': '127.0.0.1 localhost\n' }, '/etc/hosts', '127.0.0.1 localhost\n'],
  ['it, where the host has a directory', { '/etc/hosts/x': '' }, { '/etc/hosts': '127.0.0.1 localhost\n' }, '/etc/hosts', '127.0.0.1 localhost\n'],
  ['an ID, where the host has a directory', { '/etc/machine-id/x': '', '/var/lib/dbus/machine-id': OTHER }, { '/etc/machine-id': '' }, '/etc/machine-id', OTHER],
  ['its own settings, where the host has a directory', { '/etc/krb5.conf/x': '', '/etc/cups/client.conf/': '', [`${LOCALE}/`]: '' }, { '/etc/krb5.conf': 'own\n' }, '/etc/krb5.conf', 'own\n'],
]; // biome-ignore format: a line each

describe('a session', () => {
  it.each(rows)('has %s', async (_what, host, tree, path, expected) => {
    const t = prepare(host, tree);
    await t.copy();
    expect(t.seen(path)).toBe(expected);
  });
  it('of a machine without any ID has one that is always the same', async () => {
    const t = prepare({ '/etc/machine-id': 'uninitialized\n', '/etc/hostname': 'lab-1\n' }, {});
    await t.copy();
    const first = t.seen('/etc/machine-id');
    expect(first).toMatch(/^[0-9a-f]{32}\n$/);
    await t.copy();
    expect(t.seen('/etc/machine-id')).toBe(first);
    const named = (name: string) => ({
      read: (path: string) => (path === '/etc/hostname' ? name : undefined),
    });
    expect(otherMachineId(named('lab-1'))).toBe(first);
    expect(otherMachineId(named('lab-2'))).not.toBe(first);
  });
  it('finds certificates of the host by their hash, beside others of the tree', async () => {
    const links = { 'lab.pem': `->${CERTIFICATES}/lab.crt`, 'abcd.0': '->lab.pem', '1234.0': '->moz.pem' };
    const entries = Object.entries(links).map(([name, to]) => [`/etc/ssl/certs/${name}`, to]);
    const t = prepare(
      { [`${CERTIFICATES}/lab.crt`]: pem('lab'), ...Object.fromEntries(entries) },
      { '/etc/ssl/certs/abcd.0': '->other.pem' },
    );
    await t.copy();
    const names = ['abcd.0', 'abcd.1', 'lab.pem', '1234.0'];
    expect(names.map(name => t.seen(`/etc/ssl/certs/${name}`))).toEqual([
      '->other.pem',
      '->lab.pem',
      `->${CERTIFICATES}/lab.crt`,
      undefined,
    ]);
  });
});

it.each([
  ['../usr/share/zoneinfo/Europe/Berlin', 'Europe/Berlin'],
  ['/usr/share/zoneinfo/Etc/GMT+1', 'Etc/GMT+1'],
  ['/usr/share/zoneinfo/../../../etc/shadow', undefined],
  ['/srv/zone', undefined],
  [undefined, undefined],
])('the symlink %s names the time zone %s', (target, expected) => expect(zoneOf(target)).toBe(expected));

it.each([
  ['LANG=de_DE.UTF-8', true],
  ['# LANG=de_DE.UTF-8', false],
  [' export LANG="fr_FR@euro"', true],
  ['LANG=C.UTF-8', false],
  ['LANG=POSIX', false],
  ['LANG=', false],
  ['LANGUAGE=de', false],
  ['LC_TIME=C\nLANG=csb_PL\n', true],
  [undefined, false],
])('whether %j names a language: %s', (text, expected) => expect(namesLanguage(text)).toBe(expected));

it.each([
  ['de_DE.UTF-8', 'de_DE.utf8'],
  ['de_DE.ISO-8859-15@euro', 'de_DE.iso885915@euro'],
  ['de_DE', 'de_DE'],
])('glibc keeps %s as %s', (name, expected) => expect(localeFile(name)).toBe(expected));

it.each([
  ['', ['no certificate'], ''],
  [pem('a').trimEnd(), [pem('b') + pem('a'), pem('b').replaceAll('\n', '\r\n')], pem('a') + pem('b')],
])('adds to %j those of %j that are missing', (bundle, texts, expected) => {
  expect(withCertificates(bundle, texts)).toBe(expected);
});
