/** Kernel modules: why the running kernel cannot use a file system or a device mapper target, and what helps. */
import { reasonOf } from '../errors.ts';
import type { Host } from './host.ts';

/**
 * What the kernel lacks, and the command that helps; undefined if it has the file system or the module, or loads it on
 * demand. A mount loads a file system by the alias "fs-NAME", which a line "blacklist" of modprobe.d(5) takes away. LVM
 * loads its modules by name. `--show-depends` changes nothing.
 */
export async function missingModule(
  host: Host,
  name: string,
  isFileSystem: boolean,
): Promise<{ readonly what: string; readonly fix: string } | undefined> {
  const isThere = isFileSystem
    ? (host.read('/proc/filesystems') ?? '').split('\n').some(line => line.endsWith(`\t${name}`))
    : host.exists(`/sys/module/${name.replaceAll('-', '_')}`);
  if (isThere) return undefined;
  const what = `this kernel does not support ${name}`;
  try {
    const args = ['--show-depends', '--', isFileSystem ? `fs-${name}` : name];
    const { stdout } = await host.run({ file: 'modprobe', args, effect: 'read' });
    const own = stdout.trim().split('\n').at(-1) ?? ''; // after the modules that it depends on
    if (/^(insmod|builtin) /.test(own) || /^install (?!\S*\/(false|true)$)/.test(own)) return undefined;
    return { what: `${what}: modprobe.d(5) forbids its module`, fix: `grep -rw ${name} /etc/modprobe.d` };
  } catch (error) {
    const release = (host.read('/proc/sys/kernel/osrelease') ?? '').trim();
    const modules = `/lib/modules/${release}`;
    if (host.exists(modules)) return { what: `${what} (${reasonOf(error)})`, fix: `modprobe ${name}` };
    // An upgrade has removed the running kernel, or a container has none.
    const fix = host.list('/lib/modules').length > 0 ? 'reboot' : `apt install linux-image-${release}`;
    return { what: `${what}: its modules are missing, there is no "${modules}"`, fix };
  }
}
