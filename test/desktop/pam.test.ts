/**
 * Logins through PAM alone, on a booted machine: greetd, with the password typed to a greeter of the test's own that
 * speaks greetd's protocol, the real PAM stack, and Wayland or whatever else is asked for as the session.
 */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../system/lab.ts';
import { alice } from './desk.ts';
import { configureGreetd, startGreetd, typeAtGreetd } from './greetd.ts';
import { Machine } from './machine.ts';
import { GREETER_VARIABLES, prepareVariables, startedWithVariables, withVariables } from './variables.ts';

let lab: Machine;
let before: string;

beforeAll(async () => {
  lab = Machine.make([alice]);
  configureGreetd(lab);
  await lab.boot();
  lab.script('dpkg -i /root/mayfly.deb >/dev/null');
  lab.must('mayfly', 'init', '--from', 'host', '--quiet');
  before = lab.configuration();
  console.log(lab.must('mayfly', 'enable', 'pam'));
  lab.must('systemctl', 'stop', 'lightdm');
  startGreetd(lab);
});
afterEach(({ task }) => {
  if (task.result?.state !== 'fail') return;
  console.log(lab.run('journalctl', '--no-pager', '-n', '80').out, lab.run('cat', '/run/greet/log').out);
});
afterAll(() => lab.close());

/** Types a login; the greeter comes by itself. */
const logIn = (command: string): void => typeAtGreetd(lab, alice, command);

/** Nothing of a session is left anywhere on the machine. */
async function mustBeGone(): Promise<void> {
  await until(() => lab.sessions('alice').length === 0, 10_000);
  expect(lab.script('grep -c " /run/mayfly/roots/u" /proc/1/mountinfo || true').trim()).toBe('0');
  // A process of its own erases the volume.
  await until(
    () => fs.readdirSync(lab.at('/var/lib/mayfly/pool/sessions')).every(n => n === 'CACHEDIR.TAG'),
    10_000,
  );
  expect(lab.processes('alice').filter(p => p.root.includes('mayfly'))).toEqual([]);
}

const wrapper = '/usr/lib/mayfly/hooks/session-wrapper';

/** The same, with variables that the greeter sets. */
async function logInWithVariables(): Promise<void> {
  fs.writeFileSync(lab.at('/root/env'), `${GREETER_VARIABLES.join('\n')}\n`);
  lab.script('cp /root/env /run/greet/env');
  logIn(`${wrapper} sleep 1000`);
  await until(() => lab.run('pgrep', '-u', 'alice', '-x', 'sleep').code === 0, 20_000);
  lab.script('rm /run/greet/env');
  expect(lab.sessions('alice')).toHaveLength(1);
  lab.must('pkill', '-u', 'alice', '-x', 'sleep');
  await mustBeGone();
}

describe('a login through PAM', () => {
  it('has a session before systemd starts anything for the person, and all of it is inside', async () => {
    logIn(`${wrapper} weston --backend=headless-backend.so`);
    await until(() => lab.run('pgrep', '-u', 'alice', '-x', 'weston').code === 0, 20_000);
    const [id] = lab.sessions('alice');
    lab.script('systemd-run --quiet --machine=alice@.host --user sleep 1000');
    const all = lab.processes('alice').filter(p => p.program !== '(sd-pam)');
    console.log(all.map(p => `${p.root} ${p.program}`).join('\n'));
    expect(all.map(p => p.program)).toEqual(expect.arrayContaining(['weston', 'systemd', 'sleep']));
    // greetd's own child is the person's before it becomes the session; what it has become is inside.
    expect(all.filter(p => p.root !== `/run/mayfly/roots/${id}`)).toEqual([]);
    expect(lab.must('mayfly', 'sessions')).toMatch(/alice .*pam/);
    lab.must('pkill', '-x', 'weston');
    await mustBeGone();
  });

  it('gives no program of root the variables that the greeter or the user sets', async () => {
    await withVariables(lab, alice, async () => {
      await logInWithVariables();
      expect(startedWithVariables(lab)).toEqual(['alice']);
    });
  });

  it('that ends with its worker killed is over too', async () => {
    logIn(`${wrapper} sleep 1000`);
    await until(() => lab.run('pgrep', '-u', 'alice', '-x', 'sleep').code === 0, 20_000);
    lab.must('pkill', '-9', '-f', 'greetd --session-worke[r]');
    await mustBeGone();
    lab.must('systemctl', 'restart', 'greetd');
  });

  it('that is refused says why, and the next one is let in', async () => {
    const full = lab.at('/etc/mayfly/conf.d/full.toml');
    fs.writeFileSync(full, '[admission]\nmax_used_percent = 1\n');
    logIn(`${wrapper} sleep 1000`);
    const logged = () => lab.run('journalctl', '--no-pager', '-t', 'mayfly', '-p', 'err').out;
    await until(() => / is \d+ % full/.test(logged()), 10_000);
    expect(lab.sessions('alice')).toEqual([]);
    // What PAM hands to the display manager for the person; greetd keeps it to itself.
    const hook = 'PAM_TYPE=open_session PAM_USER=alice /usr/lib/mayfly/hooks/pam/session; exit $?';
    const said = lab.run('sh', '-c', hook);
    expect(said.code).not.toBe(0);
    expect(said.out).toMatch(/^Login failed: .*full.*\n$/);
    expect(said.err).toBe('');
    // Where nobody typed anything, gdm would be left without a greeter: the session's wrapper says it instead.
    expect(lab.run('sh', '-c', `PAM_SERVICE=gdm-autologin ${hook}`)).toMatchObject({ code: 0, out: '' });
    expect(lab.sessions('alice')).toEqual([]);
    expect(lab.must('cat', `/run/mayfly/users/${lab.must('id', '-u', 'alice').trim()}/reason`)).toMatch(
      /full/,
    );
    fs.rmSync(full);
    logIn(`${wrapper} sleep 1000`);
    await until(() => lab.run('pgrep', '-u', 'alice', '-x', 'sleep').code === 0, 20_000);
    lab.must('pkill', '-u', 'alice', '-x', 'sleep');
    await mustBeGone();
  });

  it('of somebody out of scope is on the host', async () => {
    fs.writeFileSync(lab.at('/etc/mayfly/conf.d/staff.toml'), 'exclude = ["root", "alice"]\n');
    logIn(`${wrapper} sleep 1000`);
    await until(() => lab.run('pgrep', '-u', 'alice', '-x', 'sleep').code === 0, 20_000);
    expect(lab.processes('alice').filter(p => p.root !== '/')).toEqual([]);
    fs.rmSync(lab.at('/etc/mayfly/conf.d/staff.toml'));
    lab.must('pkill', '-u', 'alice', '-x', 'sleep');
  });
});

describe('a login that no display manager makes', () => {
  const hook = '/usr/lib/mayfly/hooks/pam/session';
  /** Leaves in her home, in a file of this name, which root directory a login has. */
  const where = '/usr/local/bin/where';
  const told = (name: string): string => lab.run('cat', `/home/alice/${name}`).out;
  /** The services that have reached the hook; one of greetd's from before may still be ending. */
  const reached = (): string[] => [...new Set(lab.run('cat', '/run/hook-calls').out.match(/^\S+/gm))];

  beforeAll(() => {
    const tell = "stat -c '%d %i' / >~/$1.part && mv ~/$1.part ~/$1";
    fs.writeFileSync(lab.at(where), `#!/bin/sh\n${tell}\n`, { mode: 0o755 });
    lab.script(`mv ${hook} ${hook}.real`);
    const text = `#!/bin/sh\necho "$PAM_SERVICE $PAM_TYPE" >>/run/hook-calls\nexec ${hook}.real "$@"\n`;
    fs.writeFileSync(lab.at(hook), text, { mode: 0o755 });
    lab.script(`
      ssh-keygen -q -t ed25519 -N '' -f /root/key
      install -d -o alice -g alice -m 700 /home/alice/.ssh
      install -o alice -g alice -m 600 /root/key.pub /home/alice/.ssh/authorized_keys
      systemctl start ssh.service`);
  });
  afterAll(() => {
    lab.script(`mv ${hook}.real ${hook}; systemctl stop ssh.service cron.service`);
  });

  it.each([
    ['su', `su - alice -c "$1"`],
    // What is due at the start of the machine is done when cron starts for the first time.
    ['cron', 'echo "@reboot $1" | crontab -u alice -; rm -f /run/crond.reboot; systemctl restart cron'],
    ['ssh', 'ssh -i /root/key -o BatchMode=yes -o StrictHostKeyChecking=no alice@127.0.0.1 "$1"'],
  ])('%s is on the host: its service does not reach the hook', async (name, login) => {
    lab.must('sh', '-euc', login, 'sh', `${where} ${name}`);
    await until(() => told(name) !== '', 30_000);
    expect(told(name)).toBe(lab.must('stat', '-c', '%d %i', '/'));
    // Not by luck: the real PAM stack has opened a session for it.
    const opened = new RegExp(
      `\\((${name}|${name}d|${name}-l):session\\): session opened for user alice`,
      'i',
    );
    await until(() => opened.test(lab.run('journalctl', '--no-pager', '-o', 'cat').out), 30_000);
    expect(reached().filter(service => service !== 'greetd')).toEqual([]);
    expect(lab.sessions('alice')).toEqual([]);
  });

  it('is none that greetd makes: that one reaches it', async () => {
    logIn(`${wrapper} sleep 1000`);
    await until(() => lab.run('pgrep', '-u', 'alice', '-x', 'sleep').code === 0, 20_000);
    expect(reached()).toEqual(['greetd']);
    expect(lab.sessions('alice')).toHaveLength(1);
    lab.must('pkill', '-u', 'alice', '-x', 'sleep');
    await mustBeGone();
  });

  it('would give them to root, if another shell ran first, as here', async () => {
    prepareVariables(lab);
    await logInWithVariables();
    expect(startedWithVariables(lab)).toEqual(['alice', 'root']);
  });

  it('is let in by one file of PAM alone', () => {
    expect(lab.script('grep -l /usr/lib/mayfly/hooks/ /etc/pam.d/*').trim()).toBe(
      '/etc/pam.d/common-session',
    );
  });
});

describe('disable pam', () => {
  it('leaves every file as it was', () => {
    console.log(lab.must('mayfly', 'disable', 'pam'));
    expect(lab.configuration()).toBe(before);
  });
});
