/** Those files of the host for a session that are not only copied: see `host-files.ts`. Loaded on use. */
import { createHash } from 'node:crypto';
import { filesBelow } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';
import { trustCertificates } from './certificates.ts';
import {
  CERTIFICATES,
  DBUS_ID,
  HOSTNAME,
  isMachineId,
  KERBEROS,
  LOCALE,
  LOCALTIME,
  MACHINE_ID,
  namesLanguage,
  RESOLVER,
  TIMEZONE,
  zoneOf,
} from './host-settings.ts';

const directoryOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));

/** Makes `directory` in the tree if it is missing. False if a symlink, a mount or a file is in the way. */
function makeInside(host: Host, root: string, directory: string): boolean {
  const parts = directory.split('/').filter(Boolean);
  for (let n = 1; n <= parts.length; n++) {
    const at = `/${parts.slice(0, n).join('/')}`;
    if (isPlainDirectory(host, root, at)) continue;
    if (host.lstat(root + at)) return false;
    host.mkdir(root + at, 0o755);
  }
  return true;
}

/** Copies a file or directory, and makes the directories it needs. */
function copyBelow(host: Host, root: string, path: string): void {
  if (host.lstat(path)?.kind === 'dir') makeInside(host, root, path);
  for (const file of filesBelow(host, path))
    if (makeInside(host, root, directoryOf(file)) && host.lstat(root + file)?.kind !== 'dir')
      host.write(root + file, () => host.read(file) ?? '', { mode: 0o644 });
}

/** Where something is that distinguishes this machine from a copy of its disk. */
const DISTINCTIONS = [
  '/sys/class/dmi/id/product_uuid',
  '/sys/class/dmi/id/product_serial',
  '/proc/device-tree/serial-number',
  '/etc/hostname',
];

/** The ID of a machine that has no complete /etc/machine-id: that of D-Bus, or one that is always the same here. */
export function otherMachineId(host: Pick<Host, 'read'>): string {
  const older = host.read(DBUS_ID);
  if (isMachineId(older)) return `${older?.trim()}\n`;
  const known = DISTINCTIONS.map(path => host.read(path)?.trim() ?? '');
  return `${createHash('sha256')
    .update(`mayfly ${known.join(' ')}`)
    .digest('hex')
    .slice(0, 32)}\n`;
}

/** The name under which glibc keeps a locale: "de_DE.UTF-8" is "de_DE.utf8". Pure. */
export const localeFile = (name: string): string =>
  name.replace(/\.([^@]+)/, (_, charset: string) => `.${charset.toLowerCase().replace(/[^a-z0-9]/g, '')}`);

/** Whether the tree has the locale of these settings. Programs would complain about one that it lacks. */
async function hasLocale(host: Host, root: string, text: string): Promise<boolean> {
  const name = /^\s*(?:export\s+)?LANG=["']?([\w.@-]+)/m.exec(text)?.[1] ?? '';
  const directory = `${root}/usr/lib/locale`;
  if ([name, localeFile(name)].some(there => host.lstat(`${directory}/${there}`))) return true;
  const archive = `${directory}/locale-archive`;
  if (host.lstat(archive)?.kind !== 'file') return false;
  const args = ['-aqF', '-e', localeFile(name), '--', archive];
  return (await host.run({ file: 'grep', args, effect: 'read', okCodes: [0, 1] })).code === 0;
}

/** The host's language counts only where the tree has chosen none: it is the tree that speaks it. */
async function copyLocale(host: Host, root: string): Promise<void> {
  const text = host.read(LOCALE) ?? '';
  if (!namesLanguage(text) || namesLanguage(host.read(root + LOCALE))) return;
  if (makeInside(host, root, directoryOf(LOCALE)) && (await hasLocale(host, root, text)))
    host.write(root + LOCALE, text, { mode: 0o644 });
}

/** The files and directories that krb5.conf includes: Kerberos refuses to work if one is missing. */
function copyKerberos(host: Host, root: string): void {
  copyBelow(host, root, KERBEROS);
  for (const [, path = ''] of (host.read(KERBEROS) ?? '').matchAll(/^\s*include(?:dir)?\s+(\/\S*?)\/*\s*$/gm))
    if (host.pathType(path) !== undefined && !path.split('/').includes('..')) copyBelow(host, root, path);
}

/** The time zone of a host that names none by a symlink, or one that the tree lacks. Without a file it is UTC. */
async function copyZone(host: Host, root: string): Promise<void> {
  const isThere = host.stat(LOCALTIME)?.kind === 'file';
  const args = ['--remove-destination', '-T', '--', LOCALTIME, root + LOCALTIME];
  if (isThere)
    await host.run({ file: 'cp', args, effect: 'write' }); // not a text
  else if (host.lstat(root + LOCALTIME)) host.unlink(root + LOCALTIME);
  // Some programs read the name here, which is that of another zone now.
  if (host.lstat(root + TIMEZONE)?.kind !== 'file') return;
  const name = zoneOf(host.readlink(LOCALTIME)) ?? host.read(TIMEZONE)?.trim();
  if (!isThere) host.write(root + TIMEZONE, 'Etc/UTC\n', { mode: 0o644 });
  else if (name) host.write(root + TIMEZONE, `${name}\n`, { mode: 0o644 });
  else host.unlink(root + TIMEZONE);
}

/** The name that the kernel has, where the host has no file with it. */
function writeHostName(host: Host, root: string): void {
  const name = host.read('/proc/sys/kernel/hostname') ?? '';
  host.write(root + HOSTNAME, name, { mode: 0o644 });
}

/** Does for each of `paths` what a mere copy does not. */
export async function copyHostFacts(host: Host, root: string, paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    if (path === MACHINE_ID) host.write(root + path, otherMachineId(host), { mode: 0o444 });
    else if (path === LOCALE) await copyLocale(host, root);
    else if (path === KERBEROS) copyKerberos(host, root);
    else if (path === LOCALTIME) await copyZone(host, root);
    else if (path === HOSTNAME) writeHostName(host, root);
    else if (path === RESOLVER) {
      // As without the file: what answers on the machine itself is asked.
      if (host.lstat(root + path)) host.write(root + path, '', { mode: 0o644 });
    } else if (path === DBUS_ID) {
      if (isPlainDirectory(host, root, directoryOf(path))) host.symlink(MACHINE_ID, root + path);
    } else copyBelow(host, root, path);
    if (path === CERTIFICATES) trustCertificates(host, root);
  }
}
