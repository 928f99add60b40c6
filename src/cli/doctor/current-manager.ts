/**
 * Whether Mayfly is enabled for the display manager that this machine starts. `dpkg-reconfigure` and the installation of
 * another desktop change which one that is, and the hooks of the former one are then called by nobody.
 */
import type { Adapter } from '../../desktop/adapters/specs.ts';
import type { Host } from '../../linux/host.ts';
import { WRAPPER } from '../../update/greeter.ts';
import { type CheckResult, check, found, notApplicable, problem, warning } from './check.ts';
import { adaptersIn } from './setup.ts';

/** systemd starts what this leads to, whatever Debian's own file says. */
const UNIT = '/etc/systemd/system/display-manager.service';

/** Debian's choice: the path of the program. */
const CHOICE = '/etc/X11/default-display-manager';

/** The adapters whose hooks a display manager calls; the first is to be enabled. Others call none. */
const CALLED: Readonly<Record<string, readonly Adapter[]>> = {
  lightdm: ['lightdm'],
  gdm: ['gdm', 'pam'],
  gdm3: ['gdm', 'pam'],
  sddm: ['pam'],
  greetd: ['pam'],
};

export interface Current {
  readonly calling: readonly Adapter[];
  /** The name of the display manager; undefined if the machine starts none. */
  readonly name: string | undefined;
  /** sddm offers Wayland desktops, and starts them with this command; undefined if it offers none. */
  readonly wayland?: string | undefined;
}

/** Where sddm reads settings; the last one counts. */
const SDDM = ['/usr/lib/sddm/sddm.conf.d', '/etc/sddm.conf.d', '/etc/sddm.conf'];

const SDDM_FIX = `printf '[Wayland]\\nSessionCommand=${WRAPPER} --login\\n' >>/etc/sddm.conf`;

/** What starts the Wayland desktops of sddm, by the texts of its settings in their order. Pure. */
export function waylandCommand(texts: readonly string[]): string {
  let command = '';
  for (const text of texts) {
    let group = '';
    for (const line of text.split('\n')) {
      group = /^\s*\[(.*)\]\s*$/.exec(line)?.[1] ?? group;
      if (group === 'Wayland') command = /^\s*SessionCommand\s*=\s*(.*?)\s*$/.exec(line)?.[1] ?? command;
    }
  }
  return command;
}

/** The display manager that a machine starts, by the texts of its settings. Pure. */
export function currentManager(unit: string | undefined, choice: string | undefined): string | undefined {
  const target = unit ?? choice?.split('\n')[0]?.trim();
  const name = target?.replace(/^.*\//, '').replace(/\.service$/, '');
  return name === undefined || name === '' || name === 'null' ? undefined : name;
}

export function judgeCurrent({ calling, name, wayland }: Current): CheckResult {
  if (calling.length === 0) return notApplicable('no display manager is enabled');
  if (name === undefined) return notApplicable('this machine starts none');
  const wanted = CALLED[name] ?? [];
  if (wanted.some(adapter => calling.includes(adapter))) {
    const outside = wayland !== undefined && !wayland.startsWith(WRAPPER);
    const what = 'sddm starts its Wayland desktops on the host, outside their sessions';
    return found(outside ? [warning(what, SDDM_FIX)] : [], name);
  }
  const not = `this machine starts ${name}, and Mayfly is enabled for ${calling.join(', ')}`;
  const what = `${not}: users in scope are refused, or get the host in a Wayland desktop`;
  const [first] = wanted;
  return found(
    [problem(what, first === undefined ? 'dpkg-reconfigure lightdm' : `mayfly enable ${first}`)],
    '',
  );
}

function gather(host: Host): Current {
  const unit = host.exists('/run/systemd/system') ? (host.readlink(UNIT) ?? '') : undefined;
  const name = currentManager(unit, host.read(CHOICE));
  const offers = ['/usr/local/share', '/usr/share'].some(
    at => host.list(`${at}/wayland-sessions`).filter(file => file.endsWith('.desktop')).length > 0,
  );
  const files = SDDM.flatMap(path =>
    path.endsWith('.d') ? host.list(path).map(file => `${path}/${file}`) : [path],
  );
  const wayland =
    name === 'sddm' && offers ? waylandCommand(files.map(path => host.read(path) ?? '')) : undefined;
  return { calling: adaptersIn(host), name, wayland };
}

export const currentManagerCheck = check({
  group: 'display managers',
  title: 'started',
  gather: ({ host }) => gather(host),
  evaluate: judgeCurrent,
});
