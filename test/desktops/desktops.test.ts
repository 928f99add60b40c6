/**
 * What programs may do in a typed login, on every desktop: in a session the same as on the machine before Mayfly was
 * installed. One machine for each release; MAYFLY_SUITES and MAYFLY_DESKS name fewer.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { alice, bob, endsBy, mustBeGone, mustBeInside } from '../desktop/desk.ts';
import { configureGreetd, startGreetd } from '../desktop/greetd.ts';
import { Machine } from '../desktop/machine.ts';
import { readTable, SANDBOXES, tableScript } from '../desktop/sandboxes.ts';
import { ARTEFACTS } from '../desktop/workstation.ts';
import { until } from '../system/lab.ts';
import { ACTIONS, DIFFERENT } from './actions.ts';
import { type Desk, desksOf, isUp, lockRow, startWithDesktop } from './desks.ts';
import { freshHome, makeEveryday, SAVED } from './everyday.ts';
import { packagesOf } from './image.ts';
import { installPrograms, PROGRAMS } from './programs.ts';
import { configureSddm } from './sddm.ts';
import { writeTables } from './tables.ts';

const { X11, ...HEADLESS } = SANDBOXES;
type Table = Readonly<Record<string, string>>;

function rowsOf(desk: Desk): Table {
  const screen = desk.wayland ? { Wayland: 'grim "$HOME/shot-desktop.png"' } : { X11: X11 ?? '' };
  return { ...HEADLESS, ...screen, ...PROGRAMS, 'lock-session is honoured': lockRow(desk) };
}

/**
 * What a login may leave nothing of: mounts, namespaces, control groups, and what refers to a volume. Without those of
 * greeters and services, which come and go by themselves, the mount of all mount points, and the slices of units that
 * have instances, which systemd keeps.
 */
const held = (lab: Machine): string =>
  lab.script(String.raw`
    set +e # grep finds nothing
    echo mounts:
    findmnt -l -n -o TARGET | sort | grep -vxE '/run/mayfly/roots|/run/user/[0-9]{1,3}(/.*)?'
    echo namespaces:
    lsns -n -o NS,TYPE,PID | while read -r ns type pid; do
      group=$(sed 's/^0:://' /proc/$pid/cgroup 2>/dev/null) || continue
      if [ $type != user ] && echo "$group" |
        grep -qE '^/system.slice/[^/]*\.service|^/user.slice/user-[0-9]{1,3}\.slice'; then continue; fi
      echo $ns $type
    done | sort
    echo control groups:
    find /sys/fs/cgroup -mindepth 1 -type d -printf '/%P
' | sort |
      grep -vE '^/user.slice/user-[0-9]{1,3}\.slice' |
      grep -vE '^/system.slice/(system-[^/]*\.slice|[^/]*\.(socket|mount)|[^/]*\.service(/.*)?)$'
    echo volumes:
    find /var/lib/mayfly/pool/sessions /run/mayfly/sessions /etc/schroot/chroot.d -mindepth 1 -maxdepth 1 | sort
    echo loop devices:
    losetup -n -l -O BACK-FILE | grep -F '${lab.dir}' | sort
    true`);

const gone = (lab: Machine): Promise<void> =>
  until(() => lab.run('pgrep', '-u', alice.name).code === 1, 60_000);

const wanted = (suite: string): Desk[] => {
  const names = process.env.MAYFLY_DESKS?.split(',');
  return desksOf(suite).filter(desk => names?.includes(desk.name) ?? true);
};

describe.each((process.env.MAYFLY_SUITES ?? 'bookworm,trixie').split(','))('%s', suite => {
  let lab: Machine;
  let manager = 'lightdm';

  beforeAll(async () => {
    lab = Machine.make([alice, bob], packagesOf(suite), suite);
    fs.writeFileSync(lab.at('/etc/X11/default-display-manager'), '/usr/sbin/lightdm\n');
    configureGreetd(lab);
    configureSddm(lab);
    await boot();
    installPrograms(lab);
    makeEveryday(lab);
  });
  afterAll(() => {
    writeTables(ARTEFACTS);
    return lab.close();
  });

  /** A container has a read-only /proc/sys, which flatpak's sandbox writes to. */
  async function boot(): Promise<void> {
    await lab.boot();
    lab.script('mount -o remount,bind,rw /proc/sys');
  }

  /** Has this display manager at the screen instead of the one that is there. */
  async function manage(to: Desk['manager']): Promise<void> {
    if (to === manager) return;
    lab.must('systemctl', 'stop', manager);
    manager = to;
    if (manager === 'greetd') startGreetd(lab);
    else lab.must('systemctl', 'start', manager);
  }

  /** Logs in, and returns the table that the desktop has made. */
  async function table(desk: Desk, mayfly: boolean): Promise<Table> {
    const where = `${suite}-${desk.name}-${mayfly ? 'session' : 'host'}`;
    await manage(desk.manager);
    freshHome(lab, alice);
    startWithDesktop(lab, alice, tableScript(rowsOf(desk), desk.everyday ? ACTIONS : {}));
    await isUp(lab, alice, desk, mayfly);
    const rows = await readTable(lab, alice, 1_200_000);
    if (!desk.wayland) lab.shot(where);
    for (const name of ['firefox', 'chromium', 'epiphany', 'desktop']) {
      const shot = lab.at(`/home/${alice.name}/shot-${name}.png`);
      if (fs.existsSync(shot)) fs.copyFileSync(shot, `${ARTEFACTS}/${where}-${name}.png`);
    }
    const lines = Object.entries(rows).map(row => row.join('\t'));
    fs.writeFileSync(`${ARTEFACTS}/${where}.txt`, `${lines.join('\n')}\n`);
    return rows;
  }

  /** What was saved at the logout. */
  const saved = (desk: Desk): Table =>
    desk.everyday
      ? Object.fromEntries(
          Object.entries(SAVED).map(([row, file]) => [
            row,
            fs.existsSync(lab.at(`/home/${alice.name}/${file}`)) ? 'ok' : 'lost',
          ]),
        )
      : {};

  const host = new Map<string, Table>();

  it.each(wanted(suite).map(desk => [`${desk.name} by ${desk.manager}`, desk] as const))(
    '%s, without Mayfly',
    async (_, desk) => {
      const rows = await table(desk, false);
      lab.must('pkill', '-u', alice.name, '-x', desk.program.slice(0, 15));
      lab.run('loginctl', 'terminate-user', alice.name);
      await gone(lab);
      host.set(desk.name, { ...rows, ...saved(desk) });
      const failed = Object.entries(rows).filter(([, value]) => !value.startsWith('ok'));
      expect(failed).toEqual([]);
    },
  );

  it('is given sessions', async () => {
    await manage('lightdm');
    lab.script('dpkg -i /root/mayfly.deb >/dev/null');
    lab.must('mayfly', 'init', '--from', 'host', '--quiet');
    const people = 'exclude = ["root", "bob"]\nsudo = ["alice"]\n';
    fs.writeFileSync(lab.at('/etc/mayfly/conf.d/people.toml'), people);
    lab.must('mayfly', 'enable', 'lightdm');
    lab.must('mayfly', 'enable', 'pam');
    await lab.off('plug');
    await boot();
  });

  it.each(wanted(suite).map(desk => [`${desk.name} by ${desk.manager}`, desk] as const))(
    '%s, in a session',
    async (_, desk) => {
      await manage(desk.manager);
      const before = held(lab);
      const inside = await table(desk, true);
      const [id] = lab.sessions(alice.name);
      mustBeInside(lab, alice, id ?? 'none', desk.program.slice(0, 15), 'systemd');
      expect(held(lab)).not.toBe(before);
      endsBy(lab, alice, `pkill -u alice -x ${desk.program.slice(0, 15)}`);
      mustBeGone(lab, alice);
      await gone(lab);
      const session: Table = { ...inside, ...saved(desk) };
      const rows = Object.entries(host.get(desk.name) ?? {}).map(([row, value]) => ({
        row,
        host: value,
        session: session[row],
      }));
      const text = rows.map(r =>
        [r.session === r.host ? '=' : 'x', r.row, r.host, r.session === r.host ? '' : r.session].join('\t'),
      );
      fs.writeFileSync(`${ARTEFACTS}/${suite}-${desk.name}.txt`, `${text.join('\n')}\n`);
      console.log(text.join('\n'));
      await until(() => held(lab) === before, 30_000).catch(() => expect(held(lab)).toBe(before));
      expect(rows.length).toBeGreaterThan(0);
      const isExplained = (row: string, value = ''): boolean => DIFFERENT[row]?.test(value) ?? false;
      expect(rows.filter(r => r.session !== r.host && !isExplained(r.row, r.session))).toEqual([]);
    },
  );
});
