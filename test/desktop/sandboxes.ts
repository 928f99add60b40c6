/** What a person's programs may do: sandboxes, and what belongs to a desktop. The same in a session as on the host. */
import * as fs from 'node:fs';
import { until } from '../system/lab.ts';
import type { Machine } from './machine.ts';
import type { Person } from './workstation.ts';

const BWRAP = 'bwrap --ro-bind / / --dev /dev --proc /proc';
const LOGIND = 'org.freedesktop.login1 /org/freedesktop/login1';

/** Run by the desktop when it starts. Each succeeds on a machine without Mayfly. */
export const SANDBOXES: Readonly<Record<string, string>> = {
  'unshare --user': 'unshare -Ur true',
  bwrap: `${BWRAP} true`,
  'bwrap --unshare-all': `${BWRAP} --unshare-all true`,
  'a sandbox in a sandbox': `${BWRAP} unshare -Ur true`,
  'bwrap as a service': `systemd-run --user --quiet --wait --collect ${BWRAP} --unshare-all true`,
  'mounts in a namespace': `unshare -Urm sh -c 'mount -t tmpfs none /mnt && touch /mnt/x'`,
  'the session of a process': `busctl call ${LOGIND} org.freedesktop.login1.Manager GetSessionByPID u $$`,
  'session/auto is active': `busctl get-property ${LOGIND}/session/auto org.freedesktop.login1.Session Active | grep -qx 'b true'`,
  'polkit knows the session': 'pkcheck --action-id org.freedesktop.login1.inhibit-block-idle --process $$',
  'CanPowerOff is answered': `busctl call ${LOGIND} org.freedesktop.login1.Manager CanPowerOff`,
  'a set-uid program': 'passwd -S',
  X11: 'xprop -root _NET_SUPPORTING_WM_CHECK',
  'the session bus': 'busctl --user --quiet status',
};

/**
 * A script that tries each command and leaves what happened in the person's home. Of those of `values` it keeps what they
 * have said, too; others say something only if they fail.
 */
export function tableScript(
  commands: Readonly<Record<string, string>>,
  values: Readonly<Record<string, string>> = {},
): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const line = (what: string, command: string, kept: string): string =>
    `try ${quoted(what)} ${quoted(command)} ${kept}`;
  const lines = [
    ...Object.entries(commands).map(([what, command]) => line(what, command, '')),
    ...Object.entries(values).map(([what, command]) => line(what, command, 'kept')),
  ];
  return `#!/bin/sh
try() { # WHAT COMMAND [kept]
	if out=$(timeout 150 sh -c "$2" 2>&1); then out="ok\${3:+ $out}"; else out="$? $out"; fi
	printf '%s\\t%s\\n' "$1" "$(echo "$out" | tr '\\n\\t' '  ')"
}
{
${lines.join('\n')}
} >~/table.new 2>&1
mv ~/table.new ~/table
`;
}

/** Has the person's desktop run all of it at the next login. */
export function prepareTable(lab: Machine, { name }: Person): void {
  const directory = `/home/${name}/.config/openbox`;
  fs.mkdirSync(lab.at(directory), { recursive: true });
  fs.writeFileSync(lab.at(`${directory}/autostart`), tableScript(SANDBOXES), { mode: 0o755 });
  lab.must('chown', '-R', `${name}:`, `/home/${name}/.config`);
}

/** What the desktop found, by command; removes the table. */
export async function readTable(
  lab: Machine,
  { name }: Person,
  ms = 60_000,
): Promise<Record<string, string>> {
  const path = lab.at(`/home/${name}/table`);
  await until(() => fs.existsSync(path), ms);
  const text = fs.readFileSync(path, 'utf8');
  fs.rmSync(path);
  fs.rmSync(lab.at(`/home/${name}/.config/openbox/autostart`));
  return parseTable(text);
}

/** What the script has left, by command. */
export function parseTable(text: string): Record<string, string> {
  const lines = text.trim().split('\n');
  return Object.fromEntries(
    lines.map(line => [line.slice(0, line.indexOf('\t')), line.slice(line.indexOf('\t') + 1).trim()]),
  );
}
