/**
 * The files of a session that are the host's, because they are facts about the machine and its place: names of machines, its
 * ID, its time zone, its keyboard and the like. They are written before anyone can enter, each by rename.
 */
import { lookAt } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import { isPlainDirectory } from '../linux/mounts.ts';
import type { Machine } from '../state/machine.ts';
import {
  CERTIFICATES,
  DBUS_ID,
  isMachineId,
  KERBEROS,
  LOCALE,
  LOCALTIME,
  MACHINE_ID,
  namesLanguage,
  OF_THE_MACHINE,
  TIMEZONE,
  TRUSTED,
  ZONES,
  zoneOf,
} from './host-settings.ts';

/** What a system has without a time zone. */
const UNIVERSAL = ['UTC', 'GMT', 'Etc/UTC', 'Etc/GMT'];

/** Programs read the name of the time zone from the symlink. False if there is none, or if the tree lacks the zone. */
function linkZone(host: Host, root: string): boolean {
  const zone = zoneOf(host.readlink(LOCALTIME));
  const target = ZONES + zone;
  if (zone === undefined) return false;
  // Without the file, a system has this time.
  if (!host.lstat(root + target)) return UNIVERSAL.includes(zone) && !host.lstat(root + LOCALTIME);
  host.symlink(target, root + LOCALTIME);
  const name = root + TIMEZONE;
  if (host.lstat(name)?.kind === 'file') host.write(name, `${zone}\n`, { mode: 0o644 });
  return true;
}

/** Writes the host's files to the tree at `root`. What only some machines have is left to `host-facts.ts`. */
export async function copyHostFiles({ host, config }: Machine, root: string): Promise<void> {
  const plain = new Map([['/etc', true]]);
  const isSame = (path: string): boolean =>
    [path, root + path].every(at => lookAt(host, at)?.kind === 'file') &&
    host.read(root + path) === host.read(path);
  /** Whether nothing more has to be done for `path`. */
  const copy = (path: string): boolean => {
    const kind = host.stat(path)?.kind;
    // The symlink of a host without zones still names one.
    if (kind !== 'file' && OF_THE_MACHINE.includes(path)) return path === LOCALTIME && linkZone(host, root);
    if (kind === 'dir') {
      // An image that has them, too, needs nothing; nor does one without certificates.
      const isUseless = path === CERTIFICATES && !host.lstat(root + TRUSTED);
      return isUseless || host.list(path).every(name => isSame(`${path}/${name}`));
    }
    if (kind !== 'file') return true;
    if (path === LOCALE) return !namesLanguage(host.read(path)) || namesLanguage(host.read(root + path));
    const directory = path.slice(0, path.lastIndexOf('/'));
    const isPlain = plain.get(directory) ?? isPlainDirectory(host, root, directory);
    plain.set(directory, isPlain);
    if (!isPlain) return false;
    if (path === LOCALTIME) return linkZone(host, root);
    if (path === MACHINE_ID && !isMachineId(host.read(path))) return false;
    host.write(root + path, () => host.read(path) ?? '', { mode: 0o644 });
    return path !== KERBEROS || !/^\s*include/m.test(host.read(path) ?? '');
  };
  const left = config.identity.copy.filter(path => !copy(path));
  // A package makes its own where the tree was sealed by an earlier version.
  if (host.lstat(root + DBUS_ID)?.kind === 'file') left.push(DBUS_ID);
  if (left.length === 0) return;
  const { copyHostFacts } = await import('./host-facts.ts');
  await copyHostFacts(host, root, left);
}
