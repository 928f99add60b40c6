/**
 * What sandboxes of all kinds may do in a typed login, on every desktop: in a session the same as on the host. One
 * machine for each release; `MAYFLY_SUITES` names fewer.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { alice, bob, endsBy, mustBeGone, mustBeInside } from '../desktop/desk.ts';
import { configureGreetd, startGreetd } from '../desktop/greetd.ts';
import { Machine } from '../desktop/machine.ts';
import { readTable, SANDBOXES, tableScript } from '../desktop/sandboxes.ts';
import type { Person } from '../desktop/workstation.ts';
import { until } from '../system/lab.ts';
import { type Desk, desksOf, isUp, lockRow, startWithDesktop } from './desks.ts';
import { packagesOf } from './image.ts';
import { installPrograms, PROGRAMS } from './programs.ts';
import { configureSddm } from './sddm.ts';

const { X11, ...HEADLESS } = SANDBOXES;

function rowsOf(desk: Desk): Record<string, string> {
  const screen = desk.wayland ? { Wayland: 'grim "$HOME/shot-desktop.png"' } : { X11: X11 ?? '' };
  return { ...HEADLESS, ...screen, ...PROGRAMS, 'lock-session is honoured': lockRow(desk) };
}

/** The machine's user namespaces and mounts, without those of greeters and that of all mount points, which stays. */
const held = (lab: Machine): string =>
  lab.script(
    "lsns -n -t user -o NS | sort; findmnt -l -n -o TARGET | sort | grep -vxE '/run/mayfly/roots|/run/user/[0-9]{1,3}'",
  );

describe.each((process.env.MAYFLY_SUITES ?? 'bookworm,trixie').split(','))('%s', suite => {
  let lab: Machine;
  let manager = 'lightdm';

  beforeAll(async () => {
    lab = Machine.make([alice, bob], packagesOf(suite), suite);
    fs.writeFileSync(lab.at('/etc/X11/default-display-manager'), '/usr/sbin/lightdm\n');
    configureGreetd(lab);
    configureSddm(lab);
    await lab.boot();
    lab.script('dpkg -i /root/mayfly.deb >/dev/null');
    installPrograms(lab);
    lab.must('mayfly', 'init', '--from', 'host', '--quiet');
    fs.writeFileSync(lab.at('/etc/mayfly/conf.d/staff.toml'), 'exclude = ["root", "bob"]\n');
    lab.must('mayfly', 'enable', 'lightdm');
    lab.must('mayfly', 'enable', 'pam');
    await lab.off('plug');
    await lab.boot();
  });
  afterAll(() => lab.close());

  /** Has this display manager at the screen instead of the one that is there. */
  async function manage(desk: Desk): Promise<void> {
    if (desk.manager === manager) return;
    lab.must('systemctl', 'stop', manager);
    manager = desk.manager;
    if (manager === 'greetd') startGreetd(lab);
    else lab.must('systemctl', 'start', manager);
  }

  /** Logs in, and returns the table that the desktop has made and the session, which is '' on the host. */
  async function table(desk: Desk, person: Person): Promise<{ rows: Record<string, string>; id: string }> {
    startWithDesktop(lab, person, tableScript(rowsOf(desk)));
    await isUp(lab, person, desk);
    const rows = await readTable(lab, person, 900_000);
    if (!desk.wayland) lab.shot(`${suite}-${desk.name}-${person.name}`);
    for (const name of ['firefox', 'chromium', 'epiphany', 'desktop']) {
      const shot = lab.at(`/home/${person.name}/shot-${name}.png`);
      if (fs.existsSync(shot))
        fs.copyFileSync(shot, `test/artefacts/${suite}-${desk.name}-${person.name}-${name}.png`);
    }
    return { rows, id: lab.sessions(person.name)[0] ?? '' };
  }

  it.each(desksOf(suite).map(desk => [`${desk.name} by ${desk.manager}`, desk] as const))(
    '%s',
    async (_, desk) => {
      await manage(desk);
      const before = held(lab);
      const host = await table(desk, bob);
      expect(host.id).toBe('');
      lab.must('pkill', '-u', 'bob', '-x', desk.program.slice(0, 15));
      const gone = ({ name }: Person) => until(() => lab.run('pgrep', '-u', name).code === 1, 60_000);
      lab.run('loginctl', 'terminate-user', 'bob');
      await gone(bob);
      const session = await table(desk, alice);
      const rows = Object.keys(host.rows).map(row => ({
        row,
        host: host.rows[row],
        session: session.rows[row],
      }));
      console.table(rows);
      mustBeInside(lab, alice, session.id, desk.program.slice(0, 15), 'systemd');
      endsBy(lab, alice, `pkill -u alice -x ${desk.program.slice(0, 15)}`);
      mustBeGone(lab, alice);
      await gone(alice);
      await until(() => held(lab) === before, 30_000).catch(() => expect(held(lab)).toBe(before));
      expect(session.rows).toEqual(host.rows);
      expect(rows.filter(row => row.session !== 'ok')).toEqual([]);
    },
  );
});
