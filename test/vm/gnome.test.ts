/**
 * GNOME of Debian 13 with its gdm, on Wayland and on X: what programs may do is the same in a session as for somebody who
 * gets none.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { alice, bob, logsOut, mustBeInside, tell } from '../desktop/desk.ts';
import { parseTable, SANDBOXES, tableScript } from '../desktop/sandboxes.ts';
import type { Person } from '../desktop/workstation.ts';
import { isIn } from './people.ts';
import { Vm, waitFor } from './vm.ts';

const { X11, ...HEADLESS } = SANDBOXES;

/** GNOME takes no notice of a signal while its overview is still coming up, so it is told again. */
const LOCK = `i=0
  until [ "$(loginctl show-session auto -P LockedHint)" = yes ]; do
    [ $((i % 10)) -gt 0 ] || loginctl lock-session auto || exit 2
    i=$((i + 1)); [ $i -lt 150 ] || exit 1; sleep 0.5
  done
  loginctl unlock-session auto`;

/** GNOME starts programs by its user manager, which is outside of logind's session; so it is without Mayfly. */
const OUTSIDE = 'the session of a process';

let lab: Vm;

beforeAll(async () => {
  lab = Vm.make([alice, bob], 'gdm3', 'trixie');
  await lab.withMayfly();
  lab.put('/etc/mayfly/conf.d/people.toml', 'exclude = ["root", "bob"]\n');
});
afterEach(({ task }) => tell(lab, task));
afterAll(() => lab.close());

/** Logs in, and returns what the desktop's own start has found. */
async function table(person: Person, rows: Record<string, string>): Promise<Record<string, string>> {
  const { name } = person;
  const home = `/home/${name}`;
  lab.put(`${home}/bench.sh`, tableScript(rows));
  lab.put(
    `${home}/.config/autostart/bench.desktop`,
    `[Desktop Entry]\nType=Application\nName=Bench\nExec=${home}/bench.sh\n`,
  );
  lab.script(
    `rm -f ${home}/table; mkdir -p ${home}/.config; touch ${home}/.config/gnome-initial-setup-done; chmod +x ${home}/bench.sh; chown -R ${name}: ${home}`,
  );
  await isIn(lab, person, 'gnome-shell');
  await waitFor(() => lab.run('test', '-e', `${home}/table`).code === 0, 1500, `the table of ${name}`);
  const found = Object.entries(parseTable(lab.script(`cat ${home}/table`)));
  return Object.fromEntries(found.map(([row, value]) => [row, value.replace(/\bPID \d+/, 'PID')]));
}

describe('GNOME 48', () => {
  it.each([
    ['gnome', { Wayland: '[ -S "$XDG_RUNTIME_DIR/$WAYLAND_DISPLAY" ]' }],
    ['gnome-xorg', { X11: X11 ?? '' }],
  ] as const)('%s', async (entry, screen) => {
    const rows = { ...HEADLESS, ...screen, 'lock-session is honoured': LOCK };
    lab.choose(bob.name, entry);
    lab.choose(alice.name, entry);
    const host = await table(bob, rows);
    expect(lab.sessions(bob.name)).toEqual([]);
    lab.run('loginctl', 'terminate-user', bob.name);
    await waitFor(() => lab.run('pgrep', '-u', bob.name).code === 1, 120, 'the end of bob’s login');
    const inside = await table(alice, rows);
    await lab.still();
    lab.shot(`trixie-${entry}`);
    console.log(
      Object.keys(rows)
        .map(row => [row, host[row], inside[row]].join('\t'))
        .join('\n'),
    );
    mustBeInside(lab, alice, lab.sessions(alice.name)[0] ?? 'none', 'gnome-shell', 'systemd');
    logsOut(lab, alice, 'gnome-session-b');
    expect(inside).toEqual(host);
    expect(Object.keys(inside).filter(row => inside[row] !== 'ok')).toEqual([OUTSIDE]);
  });
});
