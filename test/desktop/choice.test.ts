/**
 * Desktops that people choose at lightdm's greeter: of the volume, of the host, X11 and Wayland; what they are told at
 * login, and what they may do in it.
 */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { sleep, until } from '../system/lab.ts';
import {
  alice,
  bob,
  choose,
  endsBy,
  freshGreeter,
  isIn,
  logsOut,
  mustBeGone,
  mustBeInside,
  runs,
  tell,
  withMayfly,
} from './desk.ts';
import { Machine } from './machine.ts';

let lab: Machine;

const PART = '/etc/X11/Xsession.d/70image';
const LIMITS = '/etc/security/limits.d/image.conf';
const AGENT = '/usr/bin/ssh-agent';

const entry = (kind: string, name: string): string => lab.at(`/usr/share/${kind}/${name}.desktop`);

function writeEntry(path: string, name: string, command: string): void {
  fs.writeFileSync(
    path,
    `[Desktop Entry]\nType=Application\nName=${name}\nExec=${command}\nTryExec=${command}\n`,
  );
}

/**
 * A desktop that is a terminal and a window manager; the program is where the entry is. The terminal comes second: while
 * it starts, openbox misses windows that are just being shown, and they never are.
 */
function install(name: string, program: string): void {
  writeEntry(entry('xsessions', program), name, program);
  fs.writeFileSync(lab.at(`/usr/local/bin/${program}`), '#!/bin/sh\nexec openbox --startup xterm\n', {
    mode: 0o755,
  });
}

beforeAll(async () => {
  lab = Machine.make([alice, bob]);
  const headless = lab.at('/usr/local/bin/headless');
  await withMayfly(lab, () => {
    install('In the volume', 'involume');
    writeEntry(entry('wayland-sessions', 'headless'), 'Wayland', 'headless');
    fs.writeFileSync(headless, '#!/bin/sh\nexec weston --backend=headless-backend.so\n', { mode: 0o755 });
    // What the generation has, and the host will not.
    fs.writeFileSync(lab.at(PART), 'export PART=image\n');
    fs.appendFileSync(lab.at('/etc/environment'), 'SETTING=image\n');
    fs.writeFileSync(lab.at(LIMITS), '* soft nofile 777\n* hard core 0\n');
    fs.renameSync(lab.at(AGENT), lab.at('/root/ssh-agent'));
  });
  fs.renameSync(lab.at('/root/ssh-agent'), lab.at(AGENT));
  for (const path of [PART, LIMITS]) fs.rmSync(lab.at(path));
  const text = fs.readFileSync(lab.at('/etc/environment'), 'utf8');
  fs.writeFileSync(lab.at('/etc/environment'), text.replace('SETTING=image', 'SETTING=host\nONLY=host'));
  fs.writeFileSync(lab.at('/etc/X11/Xsession.d/70host'), 'export PART=host\n');
  lab.script('for n in session window; do ln -sf /bin/false /etc/alternatives/x-$n-manager; done');
});
afterEach(({ task }) => tell(lab, task));
afterAll(() => lab.close());

/** Nothing of it is left on the host: it is in the volume alone. */
function onlyInVolume(kind: string, name: string): void {
  fs.rmSync(entry(kind, name));
  fs.rmSync(lab.at(`/usr/local/bin/${name}`));
}

describe('a desktop chosen at the greeter', () => {
  it('that only the volume has starts inside', async () => {
    onlyInVolume('xsessions', 'involume');
    const id = await isIn(lab, alice, 'In the volume');
    await runs(lab, alice, 'xterm');
    mustBeInside(lab, alice, id, 'openbox', 'xterm', 'systemd');
    logsOut(lab, alice);
  });

  it('that is a Wayland one is inside with everything, and stays there while others log in', async () => {
    onlyInVolume('wayland-sessions', 'headless');
    const id = await isIn(lab, alice, 'Wayland', 'weston');
    await runs(lab, alice, 'weston-keyboard');
    mustBeInside(lab, alice, id, 'weston', 'systemd', 'weston-keyboard');
    // Without virtual terminals lightdm brings its greeter back at once, as it does where somebody locks the screen.
    await lab.greeter();
    await lab.mistype('alice');
    expect(lab.sessions('alice')).toEqual([id]);
    lab.keys(alice.password);
    await sleep(2500); // lightdm goes back to her desktop, and calls its cleanup script
    mustBeInside(lab, alice, id, 'weston');
    expect(lab.must('mayfly', 'sessions')).toMatch(new RegExp(`${id} .* live`));
    logsOut(lab, alice, 'weston');
  });

  it('that only the host has is for staff: refused to people in scope, on the host for others', async () => {
    install('On the host', 'onhost');
    lab.must('mayfly', 'enable', 'lightdm'); // lists the desktops anew
    await freshGreeter(lab);
    await lab.name('alice');
    await choose(lab, 'On the host (staff)');
    lab.keys(alice.password);
    const dialog = ['xdotool', 'search', '--onlyvisible', '--class', 'zenity'];
    await until(() => lab.x(...dialog).out !== '', 10_000);
    await lab.settle();
    lab.shot('for-staff');
    expect(lab.run('pgrep', '-u', 'alice', '-x', 'xterm').code).not.toBe(0);
    logsOut(lab, alice, 'zenity');

    const staff = lab.at('/etc/mayfly/conf.d/staff.toml');
    onTestFinished(() => fs.rmSync(staff, { force: true }));
    fs.writeFileSync(staff, 'exclude = ["root", "bob"]\n');
    await isIn(lab, bob, 'On the host (staff)', 'xterm');
    const all = lab.processes('bob');
    expect(all.filter(p => p.root !== '/')).toEqual([]);
    lab.must('pkill', '-x', 'openbox');
    lab.run('pkill', '-u', 'bob', '-x', 'ssh-agent'); // ends by itself, but looks every ten seconds whether it is time
    await lab.greeter();
  });
});

describe('a desktop starts as a boot of the generation would start it', () => {
  /** Variables of a program of hers. */
  const variables = (name: string, program: string): Record<string, string> =>
    Object.fromEntries(
      lab
        .script(`tr '\\0\\n' '\\n ' </proc/$(pgrep -o -u ${name} -x ${program})/environ`)
        .split('\n')
        .map(line => [line.replace(/=.*/, ''), line.replace(/^[^=]*=/, '')]),
    );
  const window = ['xdotool', 'search', '--onlyvisible', '--class', 'zenity'];

  it('by its Xsession.d, without agents that only the host has, with its settings', async () => {
    const id = await isIn(lab, alice, 'In the volume');
    mustBeInside(lab, alice, id, 'openbox', 'systemd');
    const { PART: part, SETTING, ONLY, SSH_AUTH_SOCK } = variables('alice', 'openbox');
    expect({ part, SETTING, ONLY, SSH_AUTH_SOCK }).toEqual({ part: 'image', SETTING: 'image' });
    const limits = lab.script('cat /proc/$(pgrep -o -u alice -x openbox)/limits');
    expect(limits).toMatch(/^Max open files +777 /m);
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
    logsOut(lab, alice);
  });

  it('the default one is that of the generation', async () => {
    const id = await isIn(lab, alice, 'Default Xsession', 'xfce4-session');
    mustBeInside(lab, alice, id, 'xfce4-session');
    logsOut(lab, alice, 'xfce4-session');
  });

  it('for people out of scope, by what the host has', async () => {
    const staff = lab.at('/etc/mayfly/conf.d/staff.toml');
    onTestFinished(() => fs.rmSync(staff, { force: true }));
    fs.writeFileSync(staff, 'exclude = ["root", "bob"]\n');
    await isIn(lab, bob, 'Openbox');
    expect(lab.processes('bob').filter(p => p.root !== '/')).toEqual([]);
    const { PART: part, SETTING, ONLY, SSH_AUTH_SOCK } = variables('bob', 'openbox');
    expect({ part, SETTING, ONLY }).toEqual({ part: 'host', SETTING: 'host', ONLY: 'host' });
    expect(SSH_AUTH_SOCK).toMatch(/^\//);
    lab.must('pkill', '-x', 'openbox');
    lab.run('pkill', '-u', 'bob', '-x', 'ssh-agent');
    await lab.greeter();
  });

  it('which the trial login of an update and of the doctor tries as a whole', () => {
    expect(lab.run('mayfly', 'doctor', '--trial').out).toMatch(/ok +stable +generation 1, in /);
    const tmp = (): string => lab.script('ls -A /tmp /var/tmp');
    const before = tmp();
    const broken = `echo 'STARTUP="no-such-agent $STARTUP"' >/etc/X11/Xsession.d/85broken`;
    const r = lab.run('mayfly', 'enter', 'master', '--promote', '--', 'sh', '-c', broken);
    expect(r.code, r.out + r.err).not.toBe(0);
    expect(r.err).toMatch(
      /start of a desktop: a desktop for X would not start: exit code 127: .*no-such-agent: not found/,
    );
    expect(lab.must('mayfly', 'generations')).not.toMatch(/^ *2 /m);
    expect(tmp()).toBe(before);
  });

  it('and says why on the screen if it ends at once', async () => {
    const rc = lab.at('/home/alice/.xsessionrc');
    onTestFinished(() => fs.rmSync(rc, { force: true }));
    fs.writeFileSync(rc, 'no-such-agent || exit 3\n');
    await lab.greeter();
    await lab.name('alice');
    await choose(lab, 'In the volume');
    lab.keys(alice.password);
    await until(() => lab.x(...window).out !== '', 30_000);
    await lab.settle();
    lab.shot('ended-at-once');
    const text = lab.must('pgrep', '-a', '-u', 'alice', '-x', 'zenity');
    expect(text).toMatch(/exit code 3\.\s+[\s\S]*no-such-agent: not found[\s\S]*MAYFLY-DESKTOP/);
    expect(lab.run('journalctl', '-t', 'mayfly', '-o', 'cat').out).toMatch(
      /^alice: the desktop ended as soon as it had started, with exit code 3 \(MAYFLY-DESKTOP\)/m,
    );
    fs.rmSync(rc);
    endsBy(lab, alice, 'pkill -u alice -x zenity');
    mustBeGone(lab, alice);
    await isIn(lab, alice, 'In the volume');
    logsOut(lab, alice);
  });
});

describe('the notice at login', () => {
  const shown = ['xdotool', 'search', '--onlyvisible', '--class', 'xfce4-notifyd'];
  /** What the shell that is going to show it was given; gone once it is shown. */
  const asked = (): string => lab.run('pgrep', '-a', '-u', 'bob', '-f', 'mayfly-notice').out;

  it('is seen in a whole desktop, in the language of the session, and everything of Xfce is inside', async () => {
    const rc = lab.at('/home/bob/.xsessionrc');
    onTestFinished(() => fs.rmSync(rc, { force: true }));
    fs.writeFileSync(rc, 'export LANG=de_DE.UTF-8\n');
    const id = await isIn(lab, bob, 'Xfce Session', 'xfce4-session');
    await until(() => asked().includes('Dieses System wird beim Abmelden zurückgesetzt'), 20_000);
    await runs(lab, bob, 'xfce4-panel');
    await until(() => lab.x(...shown).out !== '', 20_000);
    await lab.settle();
    lab.shot('notice-de');
    mustBeInside(lab, bob, id, 'xfce4-session', 'xfconfd', 'systemd', 'xfce4-notifyd');
    logsOut(lab, bob, 'xfce4-session');
  });

  it('is not there where its file is empty', async () => {
    const file = lab.at('/etc/mayfly/notice/en');
    const text = fs.readFileSync(file);
    onTestFinished(() => fs.writeFileSync(file, text));
    fs.writeFileSync(file, '');
    await isIn(lab, bob, 'Openbox');
    expect(asked()).toBe('');
    await sleep(5000);
    expect(lab.x(...shown).out).toBe('');
    lab.shot('no-notice');
    logsOut(lab, bob);
  });
});

describe('sudo', () => {
  it('inside: /usr is gone for this login, and the machine, master and the next login are whole', async () => {
    const sudo = lab.at('/etc/mayfly/conf.d/sudo.toml');
    onTestFinished(() => fs.rmSync(sudo, { force: true }));
    fs.writeFileSync(sudo, 'sudo = ["alice"]\n');
    const files = (): string =>
      lab.script(
        `find /usr /etc/passwd /etc/sudoers.d /var/lib/mayfly/pool/generations -printf '%p %i %m %s %T@\\n' | sort | sha256sum`,
      );
    const inside = (id: string): string =>
      lab.script(`find /run/mayfly/roots/${id}/usr -xdev 2>/dev/null | wc -l`).trim();
    const before = files();
    const id = await isIn(lab, alice, 'In the volume', 'xterm');
    const whole = inside(id);
    // Its title is written by the shell's first prompt.
    const terminal = ['xdotool', 'search', '--onlyvisible', '--name', '^alice@'];
    await until(() => lab.x(...terminal, 'windowfocus').code === 0, 20_000);
    await lab.settle();
    lab.keys('sudo rm -rf /usr');
    await until(() => inside(id) === '0' || !fs.existsSync(lab.at('/usr/bin')), 30_000);
    lab.keys('ls /usr');
    lab.shot('sudo');
    expect(files()).toBe(before);
    logsOut(lab, alice);
    const next = await isIn(lab, alice, 'In the volume', 'xterm');
    expect(inside(next)).toBe(whole);
    expect(files()).toBe(before);
    logsOut(lab, alice);
  });
});

describe('the same person twice', () => {
  /** What lightdm does for a second display, which Xvfb has not. */
  const hook = (what: string, display: string): string =>
    `env -i USER=alice DISPLAY=${display} /usr/lib/mayfly/hooks/lightdm/session-${what} --quiet --caller $(pgrep -o -x lightdm)`;
  const displays = (id: string): unknown[] =>
    JSON.parse(lab.must('cat', `/run/mayfly/sessions/${id}.json`)).logins.map(
      (l: { readonly display?: string }) => l.display,
    );

  it('on a second display joins; each logout leaves the other alone, and the last one ends the session', async () => {
    const id = await isIn(lab, alice, 'Openbox');
    // A login of hers on the host, as by ssh, is not the session's.
    lab.script('systemd-run --quiet --uid=alice -p PAMName=login --unit=other sleep 1000');
    lab.script(hook('setup', ':7'));
    expect(displays(id)).toEqual([':0', ':7']);
    lab.script(hook('cleanup', ':7'));
    expect(displays(id)).toEqual([':0']);
    expect(lab.processes('alice').find(p => p.program === 'openbox')?.root).toBe(`/run/mayfly/roots/${id}`);
    lab.script(hook('setup', ':7'));
    lab.must('pkill', '-u', 'alice', '-x', 'openbox');
    await until(() => displays(id).length === 1, 10_000);
    expect(displays(id)).toEqual([':7']);
    expect(lab.must('mayfly', 'sessions')).toMatch(new RegExp(`${id} .* live`));
    endsBy(lab, alice, hook('cleanup', ':7'));
    mustBeGone(lab, alice);
    expect(lab.must('systemctl', 'is-active', 'other').trim()).toBe('active');
    lab.must('systemctl', 'stop', 'other');
  });

  it('that is refused, with the cleanup that lightdm calls then, leaves the first alone', async () => {
    const id = await isIn(lab, alice, 'Openbox');
    const bad = lab.at('/etc/mayfly/conf.d/bad.toml');
    for (const display of [':7', ':0']) {
      fs.writeFileSync(bad, 'nonsense = 1\n');
      lab.run('rm', '-f', '/run/mayfly/config.json', '/var/lib/mayfly/config.json'); // the last valid one
      lab.script(`! ${hook('setup', display)} 2>/dev/null`);
      fs.rmSync(bad);
      lab.script(hook('cleanup', display));
    }
    mustBeInside(lab, alice, id, 'openbox');
    expect(lab.must('mayfly', 'sessions')).toMatch(new RegExp(`${id} .* live`));
    logsOut(lab, alice);
  });
});

describe('what the display manager remembers of a person', () => {
  /** Both places where lightdm looks; it reads them as root, once for each person. */
  const remember = async (text: string): Promise<void> => {
    const cache = lab.at('/var/cache/lightdm/dmrc/alice.dmrc');
    fs.rmSync(cache, { force: true });
    fs.writeFileSync(lab.at('/home/alice/.dmrc'), text);
    lab.must('chown', 'alice:alice', '/home/alice/.dmrc');
    await freshGreeter(lab);
  };

  it.each([
    ['a desktop that nobody has', '[Desktop]\nSession=gone-with-an-update\n'],
    ['kdm’s word for the default one', '[Desktop]\nSession=default\n'],
    ['nothing that can be read', '\0\xff[Desktop\nSession'],
  ])('%s: the default desktop starts inside', async (_, text) => {
    onTestFinished(() => fs.rmSync(lab.at('/home/alice/.dmrc'), { force: true }));
    await remember(text);
    const id = await isIn(lab, alice);
    mustBeInside(lab, alice, id, 'openbox');
    logsOut(lab, alice);
  });
});

describe('an automatic login that PAM refuses', () => {
  it.each([
    ['whose password has expired', 'chage -d 0 bob', 'chage -d 2020-01-01 bob'],
    ['whose account has expired', 'chage -E 0 bob', 'chage -E -1 bob'],
  ])('of somebody %s leaves nothing, and the next login is whole', async (_, refuse, allow) => {
    const automatic = lab.at('/etc/lightdm/lightdm.conf.d/20-automatic.conf');
    onTestFinished(() => fs.rmSync(automatic, { force: true }));
    fs.writeFileSync(automatic, '[Seat:*]\nautologin-user=bob\nautologin-user-timeout=0\n');
    lab.script(refuse);
    await freshGreeter(lab);
    lab.shot('refused-by-pam');
    expect(lab.script('cat /var/log/lightdm/lightdm.log')).toMatch(/lightdm-autologin/);
    expect(lab.sessions('bob')).toEqual([]);
    mustBeGone(lab, bob);
    expect(lab.run('mayfly', 'doctor').out).not.toMatch(/problem /);
    fs.rmSync(automatic);
    lab.script(allow);
    await freshGreeter(lab);
    const id = await isIn(lab, bob);
    mustBeInside(lab, bob, id, 'openbox');
    logsOut(lab, bob);
  });
});
