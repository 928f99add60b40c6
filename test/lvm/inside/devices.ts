/**
 * Devices that somebody may still hold. udev and blkid open one for a moment after whoever wrote to it closed it, and
 * a lazy unmount lets go of it when it can: on a busy machine these moments are long.
 */
import * as fs from 'node:fs';
import { type Lab, must, type Ran, sh, until } from '../../system/lab.ts';

/** In milliseconds, for an idle machine that is no emulator: `until` multiplies it. Only proves "not for ever". */
const LONG = 10_000;
const BUSY = /busy|in use|exclusively|open count/i;

const mapped = (name: string): boolean => sh('dmsetup', ['info', name]).code === 0;

/** As the device mapper writes the name of a volume: "vg-test/lab-x" is "vg--test-lab--x". */
export const mapperName = (volume: string): string => volume.replaceAll('-', '--').replace('/', '-');

/** Runs a command that wants a device for itself; as long as somebody holds that, again. */
export async function whenFree(file: string, args: readonly string[]): Promise<void> {
  let last: Ran = { code: 0, out: '', err: '' };
  await until(() => {
    last = sh(file, args);
    if (last.code === 0 || !BUSY.test(last.err)) return true;
    sh('udevadm', ['settle', '--timeout=300']);
    return false;
  }, LONG).catch(() => undefined);
  if (last.code !== 0) throw new Error(`${file} ${args.join(' ')}: exit code ${last.code}: ${last.err}`);
}

/** Waits until nobody has the device open, and nothing lies on it. */
export async function untilClosed(name: string): Promise<void> {
  const count = (): string => sh('dmsetup', ['info', '-c', '--noheadings', '-o', 'open', name]).out.trim();
  await until(() => count() === '0' || !mapped(name), LONG);
}

/** Takes a device away. Absent is success. */
export async function removeDevice(name: string): Promise<void> {
  if (mapped(name)) await whenFree('dmsetup', ['remove', name]);
}

/** Whoever looks at a suspended device waits until it is resumed: this comes before all else. */
function resumeAll(): void {
  const rows = must('dmsetup', ['info', '-c', '--noheadings', '--separator', ' ', '-o', 'name,suspended']);
  for (const row of rows.split('\n')) {
    const [name = '', state] = row.split(' ');
    if (state === 'Suspended') sh('dmsetup', ['resume', name]);
  }
}

/** Removes all volumes of a group, whoever's they are and however broken; where LVM cannot, makes the group again. */
export async function clearGroup(group: string, device: string): Promise<void> {
  resumeAll();
  const devices = must('dmsetup', ['info', '-c', '--noheadings', '-o', 'name']).split('\n');
  const own = devices.filter(name => name.startsWith(`${mapperName(group)}-`));
  sh('udevadm', ['settle', '--timeout=300']);
  await until(() => sh('lvremove', ['-q', '-ff', '-y', group]).code === 0, 2_000).catch(() => undefined);
  const left = sh('lvs', ['--noheadings', '-a', '-o', 'lv_name', group]);
  if (left.code === 0 && left.out.trim() === '') return;
  for (const name of own.reverse()) sh('dmsetup', ['remove', '--force', '--retry', name]);
  sh('vgremove', ['-q', '-ff', '-y', group]);
  sh('wipefs', ['-q', '-a', device]);
  must('vgcreate', ['-q', '-ff', '-y', group, device]);
}

/** Takes away by force what a case that failed has left of its lab. Volumes are left to `clearGroup`. */
export async function abandon(lab: Lab): Promise<void> {
  resumeAll();
  const { schroot } = lab.picture();
  for (const file of schroot as string[]) fs.rmSync(`/etc/schroot/chroot.d/${file}`, { force: true });
  for (const pid of lab.processesInside()) sh('kill', ['-KILL', String(pid)]);
  const mounts = (): string[] =>
    fs
      .readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map(line => line.split(' ')[4] ?? '')
      .filter(path => path.startsWith(`${lab.dir}/`))
      .reverse();
  await until(() => {
    for (const path of mounts()) sh('umount', ['-l', path]);
    return mounts().length === 0;
  }, LONG);
  fs.rmSync(lab.dir, { recursive: true, force: true }); // no mount is below, as just seen
}
