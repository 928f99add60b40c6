/**
 * Logins typed at lightdm's greeter on a booted machine, and every way in which they end, with the real logind and
 * systemd telling of it.
 */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { sleep, until } from '../system/lab.ts';
import { Machine } from './machine.ts';
import type { Person } from './workstation.ts';

const alice: Person = { name: 'alice', password: 'wonder' };
const bob: Person = { name: 'bob', password: 'builder' };
/** How long after logind a session may still be there, in seconds. */
const LIMIT = 5;

let lab: Machine;
let before: string;

beforeAll(async () => {
  lab = Machine.make([alice, bob]);
  await lab.boot();
  lab.script('dpkg -i /root/mayfly.deb >/dev/null');
  lab.must('mayfly', 'init', '--from', 'host', '--quiet');
  before = lab.configuration();
  console.log(lab.must('mayfly', 'enable', 'lightdm'));
  await lab.off();
  await lab.boot();
});
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  lab.shot(`failed-${task.name.replace(/\W+/g, '-').slice(0, 40)}`);
  console.log(lab.run('journalctl', '--no-pager', '-n', '60').out);
  console.log(lab.run('sh', '-c', 'tail -n 20 /home/*/.xsession-errors').out);
  await freshGreeter(); // the next case begins with one
});
afterAll(() => lab.close());

/**
 * A greeter in which nothing was typed. By a reboot: lightdm, Mayfly or not, now and then hangs when it is told to stop
 * while its greeter is coming up.
 */
async function freshGreeter(): Promise<void> {
  await lab.off('plug');
  await lab.boot();
}

/** A login of alice with her desktop up. */
async function aliceIsIn(): Promise<string> {
  await lab.greeter();
  await lab.logIn(alice);
  await until(() => lab.run('pgrep', '-u', 'alice', '-x', 'openbox').code === 0, 20_000);
  const [id] = lab.sessions('alice');
  expect(id).toBeDefined();
  return id ?? '';
}

const endsBy = (act: string): number => lab.endsBy(act, 'alice');

/** Nothing of a session is left anywhere on the machine. */
function mustBeGone(): void {
  expect(lab.leftOf('alice')).toEqual([]);
}

describe('a typed login', () => {
  it('has the session as root, and what is broken in it is whole again at the next', async () => {
    lab.shot('1-greeter');
    const id = await aliceIsIn();
    lab.script(`systemd-run --quiet --machine=alice@.host --user sleep 1000`);
    const all = lab.processes('alice');
    console.log(all.map(p => `${p.root} ${p.program}`).join('\n'));
    expect(all.map(p => p.program)).toEqual(
      expect.arrayContaining(['openbox', 'systemd', 'dbus-daemon', 'sleep']),
    );
    // (sd-pam) closes the PAM session of the manager, which was opened on the host. It runs nothing.
    const outside = all.filter(p => p.root !== `/run/mayfly/roots/${id}` && p.program !== '(sd-pam)');
    expect(outside).toEqual([]);
    lab.script(
      `systemd-run --quiet --uid=alice -E DISPLAY=:0 -E XAUTHORITY=/home/alice/.Xauthority schroot -c ${id} -d / -p -- xterm -e sh -c 'cat /etc/mayfly-session; ls /usr/bin | wc -l; sleep 1000'`,
    );
    await sleep(1500);
    lab.shot('2-inside');
    lab.script(`schroot -c ${id} -d / -u root -- rm -rf /usr 2>/dev/null || true`);
    expect(fs.readdirSync(lab.at('/usr'))).toContain('bin');
    expect(endsBy('pkill -x openbox')).toBeLessThan(LIMIT);
    mustBeGone();
    const next = await aliceIsIn();
    expect(next).not.toBe(id);
    expect(lab.script(`schroot -c ${next} -d / -u root -- ls /usr`)).toContain('bin');
    lab.shot('3-next-login');
    expect(endsBy('pkill -x openbox')).toBeLessThan(LIMIT);
  });
});

describe('a whole desktop', () => {
  it('Xfce, with everything that D-Bus started for it, is inside', async () => {
    fs.writeFileSync(lab.at('/home/bob/.xsessionrc'), 'STARTUP=startxfce4\n');
    await lab.greeter();
    await lab.logIn(bob);
    await until(() => lab.run('pgrep', '-u', 'bob', '-x', 'xfce4-panel').code === 0, 30_000);
    await sleep(5000);
    lab.shot('5-xfce');
    const [id] = lab.sessions('bob');
    const all = lab.processes('bob');
    console.log(all.map(p => `${p.root} ${p.program}`).join('\n'));
    expect(all.map(p => p.program)).toEqual(expect.arrayContaining(['xfce4-session', 'xfconfd', 'systemd']));
    expect(all.filter(p => p.root !== `/run/mayfly/roots/${id}` && p.program !== '(sd-pam)')).toEqual([]);
    lab.must('pkill', '-x', 'xfce4-session');
    await until(() => lab.sessions('bob').length === 0, 15_000);
    fs.rmSync(lab.at('/home/bob/.xsessionrc'));
  });

  it('somebody out of scope gets the host, services too', async () => {
    fs.writeFileSync(lab.at('/etc/mayfly/conf.d/staff.toml'), 'exclude = ["root", "bob"]\n');
    await lab.greeter();
    await lab.logIn(bob);
    await until(() => lab.run('pgrep', '-u', 'bob', '-x', 'openbox').code === 0, 20_000);
    const all = lab.processes('bob');
    expect(all.map(p => p.program)).toEqual(expect.arrayContaining(['openbox', 'systemd']));
    expect(all.filter(p => p.root !== '/')).toEqual([]);
    lab.must('pkill', '-x', 'openbox');
    fs.rmSync(lab.at('/etc/mayfly/conf.d/staff.toml'));
    await lab.greeter();
  });
});

describe('a login that is refused', () => {
  it('says why on the screen, and then the greeter is back', async () => {
    const full = lab.at('/etc/mayfly/conf.d/full.toml');
    fs.writeFileSync(full, '[admission]\nmax_used_percent = 1\n');
    await lab.greeter();
    await lab.logIn(alice);
    const dialog = ['xdotool', 'search', '--onlyvisible', '--class', 'zenity'];
    await until(() => lab.x(...dialog).out !== '', 10_000);
    await sleep(1000);
    lab.shot('6-refused');
    expect(lab.sessions('alice')).toEqual([]);
    fs.rmSync(full);
    lab.x('xdotool', 'key', 'Return');
    await until(() => lab.x(...dialog).out === '', 25_000);
    await aliceIsIn();
    expect(endsBy('pkill -x openbox')).toBeLessThan(LIMIT);
  });
});

describe('a login that ends without a word', () => {
  it.each([
    ['the X server is killed', 'pkill -9 Xvfb'],
    ['the X server ends', 'pkill -TERM Xvfb'],
    ['the display manager is killed', 'pkill -9 -x lightdm'],
    ['the display manager is restarted', 'systemctl restart lightdm'],
    ["lightdm's child is killed", 'pkill -9 -f "lightdm --sessio[n]-child"'],
    ['schroot is killed', 'pkill -9 -x schroot'],
    ['logind is told to', 'loginctl terminate-user alice'],
  ])('%s', async (_, act) => {
    await aliceIsIn();
    const after = endsBy(act);
    console.log(`${act}: gone ${after.toFixed(1)} s after logind's session`);
    expect(after).toBeLessThan(LIMIT);
    mustBeGone();
  });

  it('processes that ignore every word go with it', async () => {
    const id = await aliceIsIn();
    lab.script(
      `setsid -f schroot -c ${id} -d / -u alice -- sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null`,
    );
    await sleep(500);
    expect(endsBy('pkill -x openbox')).toBeLessThan(LIMIT);
    mustBeGone();
  });

  it('the machine is switched off in the middle, or loses power', async () => {
    for (const how of ['orderly', 'plug'] as const) {
      await aliceIsIn();
      await lab.off(how);
      await lab.boot();
      expect(lab.must('systemctl', 'is-active', 'mayfly-recover.service').trim()).toBe('active');
      mustBeGone();
    }
  });
});

describe('what is no login', () => {
  it('a wrong password, and another name', async () => {
    await lab.greeter();
    await lab.logIn({ name: 'alice', password: 'no' });
    await sleep(2500); // pam_unix takes its time
    await lab.greeter();
    lab.shot('4-wrong-password');
    expect(lab.sessions('alice')).toEqual([]);
    await freshGreeter();
    await lab.keys('bob');
    lab.x('xdotool', 'key', 'Escape');
    await sleep(500);
    expect(lab.sessions('bob')).toEqual([]);
  });
});

describe('disable', () => {
  it('leaves every file as it was', async () => {
    await lab.greeter();
    console.log(lab.must('mayfly', 'disable', 'lightdm'));
    expect(lab.configuration()).toBe(before);
  });
});
