/** What a person does at the machine's screen, how a login ends, and what may not be left of it. */
import { expect, type RunnerTestCase } from 'vitest';
import { until } from '../system/lab.ts';
import type { Machine } from './machine.ts';
import type { Person, Workstation } from './workstation.ts';

export const alice: Person = { name: 'alice', password: 'wonder' };
export const bob: Person = { name: 'bob', password: 'builder' };

/** Switches on a machine with Mayfly enabled for lightdm; returns what /etc was before. `prepare` comes before init. */
export async function withMayfly(lab: Machine, prepare = (): void => undefined): Promise<string> {
  await lab.boot();
  lab.script('dpkg -i /root/mayfly.deb >/dev/null');
  prepare();
  lab.must('mayfly', 'init', '--from', 'host', '--quiet');
  const before = lab.configuration();
  console.log(lab.must('mayfly', 'enable', 'lightdm'));
  await freshGreeter(lab);
  return before;
}

/**
 * A greeter in which nothing was typed. By a reboot: lightdm, Mayfly or not, now and then hangs when it is told to stop
 * while its greeter is coming up.
 */
export async function freshGreeter(lab: Workstation): Promise<void> {
  await lab.off('plug');
  await lab.boot();
}

/** After a case that failed: what there is to know, and a fresh greeter for the next one. */
export async function tell(lab: Workstation, task: Readonly<RunnerTestCase>): Promise<void> {
  if (task.result?.state !== 'fail') return;
  lab.shot(`failed-${task.name.replace(/\W+/g, '-').slice(0, 40)}`);
  console.log(lab.run('journalctl', '--no-pager', '-n', '60').out);
  console.log(lab.run('sh', '-c', 'tail -n 20 /home/*/.xsession-errors').out);
  await freshGreeter(lab);
}

/** Waits until a program of the person runs. */
export const runs = (lab: Workstation, { name }: Person, program: string, ms = 30_000): Promise<void> =>
  until(() => lab.run('pgrep', '-u', name, '-x', program).code === 0, ms);

/** Chooses an entry from the greeter's menu of desktops, which lists them by name. */
export async function choose(lab: Machine, entry: string): Promise<void> {
  const list = lab.script(
    `grep -h ^Name= $(ls /run/mayfly/greeter/*/*.desktop 2>/dev/null || ls /usr/share/*sessions/*.desktop) | LC_ALL=C sort`,
  );
  const row = list.trim().split('\n').indexOf(`Name=${entry}`);
  if (row < 0) throw new Error(`the greeter does not offer "${entry}", but ${list}`);
  const windows = (): number =>
    lab.x('xdotool', 'search', '--onlyvisible', '--class', 'lightdm').out.split('\n').length;
  const closed = windows();
  lab.x('xdotool', 'mousemove', '1008', '12', 'click', '1');
  await until(() => windows() > closed, 10_000);
  for (let i = 0; i <= row; i++) lab.x('xdotool', 'key', 'Down');
  lab.shot(`menu-${entry.replace(/\W+/g, '-')}`);
  lab.x('xdotool', 'key', 'Return');
  await until(() => windows() === closed, 10_000);
  await lab.settle(); // the field has the keyboard again
}

/** A login with its desktop up, of the entry that is chosen at the greeter; returns the session's id. */
export async function isIn(
  lab: Machine,
  person: Person,
  entry?: string,
  program = 'openbox',
): Promise<string> {
  await lab.greeter();
  await lab.name(person.name);
  if (entry !== undefined) await choose(lab, entry);
  lab.keys(person.password);
  await runs(lab, person, program);
  const [id] = lab.sessions(person.name);
  if (id === undefined) return '';
  // The end of a login that mayfly.service has not seen yet is found out at the next one only.
  await until(() => lab.run('grep', '-q', id, '/run/mayfly/sightings.json').code === 0, 10_000);
  return id;
}

/**
 * What of a login is on the host, as it must be: gdm's own part and its X server, and (sd-pam), which closes the PAM
 * session of the manager. They run nothing of the person's.
 */
const ON_HOST = ['(sd-pam)', 'gdm-x-session', 'gdm-wayland-ses', 'Xorg'];

/** Every process of the person is one of `id`, and these are among them. */
export function mustBeInside(lab: Workstation, { name }: Person, id: string, ...programs: string[]): void {
  const all = lab.processes(name);
  console.log(all.map(p => `${p.root} ${p.program}`).join('\n'));
  expect(all.map(p => p.program)).toEqual(expect.arrayContaining(programs));
  expect(all.filter(p => p.root !== `/run/mayfly/roots/${id}` && !ON_HOST.includes(p.program))).toEqual([]);
}

/**
 * Does `act` and waits for the end of the person's session; returns how many seconds after logind took their logins at
 * the greeter for over the record was gone. Both are looked at ten times a second, on the machine, for five minutes.
 */
export function endsBy(lab: Workstation, { name }: Person, act: string): number {
  const out = lab.script(`
    uid=$(id -u ${name})
    now() { date +%s%N; }
    known() {
      for f in /run/systemd/sessions/*; do
        case $f in *.ref) continue ;; esac
        grep -qsx "UID=$uid" "$f" && grep -qsE '^SERVICE=(lightdm|sddm|greetd)' "$f" &&
          grep -qsE '^STATE=(active|online|opening)' "$f" && return 0
      done
      return 1
    }
    gone= ; (${act}) >/dev/null 2>&1 </dev/null
    i=0
    while [ $i -lt 3000 ]; do
      i=$((i + 1))
      [ -n "$gone" ] || known || gone=$(now)
      if [ -n "$gone" ] && ! ls /run/mayfly/sessions/u$uid-*.json >/dev/null 2>&1; then
        echo $((($(now) - gone) / 1000000))
        exit
      fi
      sleep 0.1
    done
    echo "logind: $gone" >&2; exit 1`);
  return Number(out) / 1000;
}

/**
 * Nothing of a person's sessions is left anywhere on the machine: mounts, records, volumes, schroot entries, processes
 * of whoever it may be.
 */
export function mustBeGone(lab: Workstation, { name }: Person): void {
  const left = lab.script(`
    u=u$(id -u ${name})-
    set +e # grep finds nothing
    grep -o " /run/mayfly/roots/$u[^ ]*" /proc/1/mountinfo
    cd /var/lib/mayfly
    for n in $(seq 300); do ls -d pool/sessions/.old-$u* >/dev/null 2>&1 || break; sleep 0.1; done # being erased
    find /run/mayfly/sessions pool/sessions /etc/schroot/chroot.d -maxdepth 1 -name "*$u*"
    ls -l /proc/[0-9]*/root 2>/dev/null | grep -o " /proc/[0-9]*/root.*/mayfly/roots/$u.*"
    grep -s "/mayfly/.*/$u" /proc/[0-9]*/mountinfo
    true`);
  expect(left).toBe('');
}

/** The person's desktop is ended, and after it nothing is left. */
export function logsOut(lab: Workstation, person: Person, program = 'openbox'): void {
  const after = endsBy(lab, person, `pkill -u ${person.name} -x ${program}`);
  console.log(`logout: gone ${after.toFixed(1)} s after logind's session`);
  mustBeGone(lab, person);
}
