/**
 * Logins typed at lightdm's greeter on a booted machine, and every way in which they end, with the real logind and
 * systemd telling of it.
 */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { sleep, until } from '../system/lab.ts';
import { disable, endsWithoutAWord, noLogin, typedLogin } from './basics.ts';
import {
  alice,
  bob,
  endsBy,
  freshGreeter,
  isIn,
  logsOut,
  mustBeGone,
  runs,
  tell,
  withMayfly,
} from './desk.ts';
import { endings } from './ending.ts';
import { Machine } from './machine.ts';
import { prepareTable, readTable } from './sandboxes.ts';

let lab: Machine;
let before: string;

beforeAll(async () => {
  lab = Machine.make([alice, bob]);
  before = await withMayfly(lab);
  lab.shot('greeter');
});
afterEach(({ task }) => tell(lab, task));
afterAll(() => lab.close());

describe('a typed login', () => {
  typedLogin(() => lab);

  it('has sandboxes, and all that a desktop on the host has', async () => {
    prepareTable(lab, alice);
    await isIn(lab, alice);
    const table = await readTable(lab, alice);
    console.log(table);
    expect(Object.values(table).filter(value => value !== 'ok')).toEqual([]);
    logsOut(lab, alice);
  });
});

describe('the agent', () => {
  /** The page faults of the processes that the agent has started and waited for: field 11 of proc_pid_stat(5). */
  const work = (): number => {
    const pid = lab.run('ls', '/run/mayfly/agent').out.replace('.sock', '').trim();
    const text = /^\d+$/.test(pid) ? lab.run('cat', `/proc/${pid}/stat`).out : '';
    return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[8] || -1);
  };

  it('answers a typed login and a logout', async () => {
    await until(() => work() >= 0, 60_000);
    let before = work();
    await isIn(lab, alice);
    expect(work()).toBeGreaterThan(before);
    before = work();
    logsOut(lab, alice);
    expect(work()).toBeGreaterThan(before);
  });
});

describe('somebody out of scope', () => {
  it('gets the host, services too, by what the hook has said', async () => {
    const staff = lab.at('/etc/mayfly/conf.d/staff.toml');
    onTestFinished(() => fs.rmSync(staff, { force: true }));
    fs.writeFileSync(staff, 'exclude = ["root", "bob"]\n');
    const asked = lab.at('/usr/local/bin/mayfly'); // first in the path of a desktop
    fs.writeFileSync(asked, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    const word = `/run/mayfly/users/${lab.must('id', '-u', 'bob').trim()}/host`;
    prepareTable(lab, bob);
    await isIn(lab, bob);
    fs.rmSync(asked);
    const table = await readTable(lab, bob);
    console.log(table);
    expect(Object.values(table).filter(value => value !== 'ok')).toEqual([]);
    expect(lab.must('stat', '-c', '%U %a %F', word)).toBe('root 644 regular file\n');
    const all = lab.processes('bob');
    expect(all.map(p => p.program)).toEqual(expect.arrayContaining(['openbox', 'systemd']));
    expect(all.filter(p => p.root !== '/')).toEqual([]);
    lab.must('pkill', '-x', 'openbox');
    await until(() => lab.run('test', '-e', word).code === 1, 10_000);
    await lab.greeter();
  });
});

describe('beside the desktop of somebody in scope', () => {
  it('root, staff, the greeter and other logins of the same person are on the host: su, sudo, cron, managers', async () => {
    const staff = lab.at('/etc/mayfly/conf.d/staff.toml');
    onTestFinished(() => fs.rmSync(staff, { force: true }));
    fs.writeFileSync(staff, 'exclude = ["root", "bob"]\n');
    await isIn(lab, alice);
    const look = "readlink /proc/self/ns/mnt; stat -c '%d %i' /";
    const host = lab.must('sh', '-c', look);
    for (const command of [
      ['su', '-', 'bob', '-c', look],
      ['su', '-', 'alice', '-c', look],
      ['su', '-', '-c', look],
      ['su', 'bob', '-c', look],
      ['sudo', '-i', '-u', 'bob', 'sh', '-c', look],
      ['sudo', '-u', 'alice', 'sh', '-c', look],
    ])
      expect(lab.must(...command), command.join(' ')).toBe(host);
    for (const name of ['bob', 'alice']) {
      fs.writeFileSync(lab.at(`/home/${name}/look`), look);
      const job = `echo '@reboot sh ~/look >~/by-cron.part; mv ~/by-cron.part ~/by-cron' | crontab -u ${name} -`;
      lab.script(`${job}; rm -f /run/crond.reboot; systemctl restart cron`);
      const told = `/home/${name}/by-cron`;
      await until(() => lab.run('test', '-e', told).code === 0, 30_000);
      expect(lab.must('cat', told)).toBe(host);
      lab.script(`crontab -u ${name} -r`);
    }
    const manager = (name: string): string =>
      lab.script(`uid=$(id -u ${name}); systemctl start user@$uid
        pid=$(systemctl show -P MainPID user@$uid); readlink /proc/$pid/ns/mnt; stat -L -c '%d %i' /proc/$pid/root`);
    expect([manager('bob'), manager('root')]).toEqual([host, host]);
    expect(manager('alice')).not.toBe(host);
    logsOut(lab, alice);
    await lab.greeter();
    expect(manager('lightdm')).toBe(host);
  });
});

describe('the timers of the update', () => {
  it('wait, and a night that was not missed is no update', () => {
    const history = (): unknown => JSON.parse(lab.must('mayfly', 'status', '--json')).update.history;
    const timers = ['mayfly-update.timer', 'mayfly-update-missed.timer'];
    expect(lab.must('systemctl', 'is-active', ...timers)).toBe('active\nactive\n');
    const was = history();
    lab.must('systemctl', 'start', 'mayfly-update-missed.service');
    expect(lab.must('systemctl', 'show', '-P', 'Result', 'mayfly-update-missed.service')).toBe('success\n');
    expect(history()).toEqual(was);
  });
});

/** Has the timer start for the last time in the past. */
const LAST_NIGHT =
  'd=/etc/systemd/system/mayfly-update.timer.d; mkdir $d; printf "[Timer]\\nOnCalendar=\\nOnCalendar=2020-01-01\\n" >$d/override.conf; systemctl daemon-reload';

describe('the doctor', () => {
  const well = () => expect(lab.run('mayfly', 'doctor').out).toMatch(/\n\nno problems found\n$/);

  it('finds all well, at the greeter and with somebody in', async () => {
    await lab.greeter();
    console.log(lab.must('mayfly', 'doctor'));
    await isIn(lab, alice);
    well();
    expect(lab.run('mayfly', 'doctor', '--trial').out).toMatch(
      /ok +stable +generation 1, in [\s\S]*no problems found\n$/,
    );
    logsOut(lab, alice);
  });

  it.each([
    ['the service', 'systemctl stop mayfly.service', 7],
    ['the timer', 'systemctl disable --now mayfly-update.timer', 7],
    ['the update, which the timer cannot start', 'systemctl mask mayfly-update.service', 7],
    ['the next time of the timer', `${LAST_NIGHT}; systemctl restart mayfly-update.timer`, 7],
    ['recovery at boot', 'systemctl disable mayfly-recover.service', 1],
    ['lightdm, which was not restarted', 'touch /etc/lightdm/lightdm.conf.d/50-mayfly.conf', 1],
  ])('%s is missed, and the hint mends it', async (_, act, code) => {
    // What is written within two seconds of lightdm's start may have been read by it.
    await until(() => Number(lab.script('ps -o etimes= -p $(pgrep -o -x lightdm)')) > 3);
    lab.script(`${act} 2>&1`);
    const r = lab.run('mayfly', 'doctor', '--quiet');
    expect(r.code, r.out).toBe(code);
    const hints = [...r.out.matchAll(/hint: (.*)/g)].map(([, hint]) => hint);
    expect(hints).toHaveLength(1);
    // lightdm now and then hangs when it is stopped: a boot instead.
    if (hints[0] === 'systemctl restart lightdm') await freshGreeter(lab);
    else lab.script(`${hints[0]} 2>&1`);
    await lab.greeter();
    well();
  });
});

describe('a login that is refused', () => {
  it.each([
    [
      'a full pool',
      '[admission]\nmax_used_percent = 1\n',
      'MAYFLY-FULL',
      / problem +free space .*the limit for new logins is 1 %/,
    ],
    [
      'a wrong configuration',
      'nonsense = 1\n',
      'MAYFLY-CONFIG',
      / problem +valid .*refused\.toml:1: unknown option/,
    ],
  ])('says why on the screen, and then the greeter is back: %s', async (_, text, code, seen) => {
    const file = lab.at('/etc/mayfly/conf.d/refused.toml');
    onTestFinished(() => fs.rmSync(file, { force: true }));
    fs.writeFileSync(file, text);
    lab.run('rm', '-f', '/run/mayfly/config.json', '/var/lib/mayfly/config.json'); // or the last valid one is used
    await lab.greeter();
    await lab.logIn(alice);
    const dialog = ['xdotool', 'search', '--onlyvisible', '--class', 'zenity'];
    await until(() => lab.x(...dialog).out !== '', 10_000);
    await lab.settle();
    lab.shot(`6-refused-${code.toLowerCase()}`);
    expect(lab.run('pgrep', '-x', '-U', 'nobody', 'zenity').code).toBe(0); // never root
    expect(lab.run('pgrep', '-x', '-U', 'root', 'zenity').code).toBe(1);
    const journal = ['-t', 'mayfly', '-o', 'cat', `MAYFLY_CODE=${code}`, 'MAYFLY_USER=alice'];
    expect(lab.run('journalctl', ...journal).out).toMatch(
      new RegExp(`^login of alice refused: .*\\(${code}\\)$`, 'm'),
    );
    expect(lab.run('mayfly', 'doctor', '--quiet').out).toMatch(seen);
    expect(lab.sessions('alice')).toEqual([]);
    fs.rmSync(file);
    lab.x('xdotool', 'key', 'Return');
    await until(() => lab.x(...dialog).out === '', 25_000);
    await isIn(lab, alice);
    logsOut(lab, alice);
  });
});

describe('a login that ends without a word', () => {
  endsWithoutAWord(
    () => lab,
    [
      ['the X server is killed', 'pkill -9 Xvfb'],
      ['the X server ends', 'pkill -TERM Xvfb'],
      ['the display manager is killed', 'pkill -9 -x lightdm'],
      ['the display manager is restarted', 'systemctl restart lightdm'],
      ["lightdm's child is killed", 'pkill -9 -f "lightdm --sessio[n]-child"'],
      ['schroot is killed', 'pkill -9 -x schroot'],
      ['logind is told to', 'loginctl terminate-user alice'],
    ],
  );

  it('the person is told first: the window is theirs, and the session ends with it', async () => {
    const id = await isIn(lab, alice);
    const bus = 'unix:path=/run/user/$(id -u alice)/bus';
    lab.script(`
      systemd-run -q --unit=bus -p User=alice sh -c 'exec busctl --address=${bus} monitor >/home/alice/heard'
      until grep -q NameAcquired /home/alice/heard; do sleep 0.05; done
      systemd-run -q --unit=announced mayfly end alice --in 8s --notice 'The exam begins.'`);
    await until(() => lab.x('xdotool', 'search', '--onlyvisible', '--class', 'zenity').out !== '', 8000);
    lab.shot('announced-end');
    expect(lab.must('pgrep', '-a', '-u', 'alice', '-x', 'zenity')).toMatch(
      /The exam begins\.\s+This session will be ended at \d\d:\d\d\. Please save your work/,
    );
    expect(lab.run('pgrep', '-x', '-U', 'root', 'zenity').code).toBe(1);
    await until(() => /Member=Notify[\s\S]*The exam begins/.test(lab.must('cat', '/home/alice/heard')), 8000);
    await until(() => lab.sessions('alice').length === 0, 30_000);
    fs.rmSync(lab.at('/home/alice/heard')); // the listener has ended with the bus
    mustBeGone(lab, alice);
    expect(lab.must('journalctl', '-t', 'mayfly', '-o', 'cat')).toContain(`${id} of alice will be ended at `);
    expect(lab.run('systemctl', 'is-failed', 'announced').out).not.toBe('failed\n');
  });

  it('processes that ignore every word go with it', async () => {
    const id = await isIn(lab, alice);
    lab.script(
      `setsid -f schroot -c ${id} -d / -u alice -- sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null`,
    );
    await until(() => lab.run('pgrep', '-u', 'alice', '-f', 'TERM HUP INT; while').code === 0);
    endsBy(lab, alice, 'pkill -x openbox');
    mustBeGone(lab, alice);
  });

  /** Has a session begin a minute earlier. */
  function age(id = ''): void {
    const record = lab.at(`/run/mayfly/sessions/${id}.json`);
    const earlier = (n: string): string => String(Number(n) - 60_000);
    const text = fs.readFileSync(record, 'utf8').replace(/(?<="(?:created|since)":)\d+/g, earlier);
    fs.writeFileSync(lab.at('/var/lib/mayfly/aged'), text, { mode: 0o600 });
    fs.renameSync(lab.at('/var/lib/mayfly/aged'), record);
  }

  it('is not one that takes long in PAM', async () => {
    const pam = lab.at('/etc/pam.d/lightdm');
    const text = fs.readFileSync(pam, 'utf8');
    const wait = lab.at('/usr/local/bin/wait-for-go');
    fs.writeFileSync(wait, '#!/bin/sh\nuntil [ -e /run/go ]; do sleep 0.1; done\n', { mode: 0o755 });
    fs.writeFileSync(
      pam,
      text.replace('session ', 'session optional pam_exec.so /usr/local/bin/wait-for-go\nsession '),
    );
    try {
      await lab.greeter();
      await lab.logIn(bob); // of whom nothing is left that could be inside
      await until(() => / live/.test(lab.run('mayfly', 'sessions').out), 10_000);
      const [id] = lab.sessions('bob');
      age(id);
      await sleep(2500);
      expect(lab.run('pgrep', '-u', 'bob').code).toBe(1);
      lab.must('touch', '/run/go');
      await runs(lab, bob, 'openbox');
      expect(lab.sessions('bob')).toEqual([id]);
    } finally {
      lab.must('touch', '/run/go');
      fs.writeFileSync(pam, text);
    }
    logsOut(lab, bob);
  });

  it('before the service has seen it, with no cleanup by lightdm: after a minute', async () => {
    lab.must('systemctl', 'stop', 'mayfly.service');
    await lab.greeter();
    await lab.logIn(alice);
    await runs(lab, alice, 'openbox');
    lab.must('pkill', '-9', 'Xvfb');
    await until(() => lab.run('pgrep', '-u', 'alice').code === 1, 30_000); // her manager stays for 10 s
    const [id] = lab.sessions('alice');
    lab.must('systemctl', 'start', 'mayfly.service');
    await sleep(2000);
    expect(lab.sessions('alice')).toEqual([id]);
    age(id);
    await until(() => lab.sessions('alice').length === 0, 10_000);
    mustBeGone(lab, alice);
    expect(lab.must('journalctl', '-t', 'mayfly', '-o', 'cat')).toContain(
      `${id} of alice is over: its login`,
    );
  });

  it('the machine is switched off in the middle, or loses power', async () => {
    for (const how of ['orderly', 'plug'] as const) {
      await isIn(lab, alice);
      await lab.off(how);
      await lab.boot();
      expect(lab.must('systemctl', 'is-active', 'mayfly-recover.service').trim()).toBe('active');
      mustBeGone(lab, alice);
    }
  });
});

describe('the end of a login', () => endings(() => lab, ['DOod', 'ODod', 'DdOo', 'DdDd']));

describe('what is no login', () => noLogin(() => lab));

describe('a package upgraded, or removed, while somebody is in', () => {
  it('leaves the desktop alone, and the logout is as clean as ever', async () => {
    const id = await isIn(lab, alice);
    const old = lab.must('pgrep', '-o', '-u', 'alice', '-x', 'openbox');
    lab.script(`cd /root; dpkg-deb -R mayfly.deb new; sed -i 's/^Version: .*/&+1/' new/DEBIAN/control
      dpkg-deb -b new new.deb >/dev/null; dpkg -i new.deb >/dev/null`);
    expect(lab.must('dpkg-query', '--show', 'mayfly')).toMatch(/\+1$/m);
    expect(lab.must('systemctl', 'is-active', 'mayfly.service').trim()).toBe('active');
    const removed = lab.run('dpkg', '-r', 'mayfly');
    expect(removed.code).not.toBe(0);
    expect(removed.err).toContain(`mayfly end ${id}`);
    expect(lab.must('pgrep', '-o', '-u', 'alice', '-x', 'openbox')).toBe(old);
    expect(lab.must('mayfly', 'sessions')).toMatch(new RegExp(`${id} .* live`));
    logsOut(lab, alice);
    await isIn(lab, alice);
    logsOut(lab, alice);
  });
});

disable(
  () => lab,
  () => before,
);
