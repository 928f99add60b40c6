/** Logins typed at the real gdm: desktops on X and on Wayland, several people, and what a person sees who is refused. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { alice, bob, logsOut, mustBeGone, mustBeInside, tell } from '../desktop/desk.ts';
import { startedWithVariables, withVariables } from '../desktop/variables.ts';
import { sleep } from '../system/lab.ts';
import { desktop, ends, inFront, isIn, mustLive } from './people.ts';
import { Vm, waitFor } from './vm.ts';

let lab: Vm;
let before: string;

beforeAll(async () => {
  lab = Vm.make([alice, bob], 'gdm3');
  before = await lab.withMayfly();
  lab.choose('alice', 'openbox');
  lab.choose('bob', 'openbox');
});
afterEach(({ task }) => tell(lab, task));
afterAll(() => lab.close());

/** A pool that lets nobody in, while `act` runs. */
async function whileFull(act: () => Promise<void>): Promise<void> {
  const full = '/etc/mayfly/conf.d/full.toml';
  lab.put(full, '[admission]\nmax_used_percent = 1\n');
  try {
    await act();
  } finally {
    lab.must('rm', full);
  }
}

/** How many lines of this boot's journal by a program match. */
const logged = (by: string, words: string): number =>
  lab.run('journalctl', '-b', '-q', '-t', by, '-g', words).out.split('\n').length - 1;

describe('a login typed at gdm', () => {
  it('on X is inside, with its services, and what is broken in it is whole at the next', async () => {
    const id = await isIn(lab, alice);
    await lab.still();
    lab.shot('gdm-x');
    mustBeInside(lab, alice, id, 'openbox', 'systemd', 'dbus-daemon', 'pipewire');
    lab.script(`schroot -c ${id} -d / -u root -- rm -rf /usr 2>/dev/null || true; test -e /usr/bin/sh`);
    logsOut(lab, alice);
    const next = await isIn(lab, alice);
    expect(next).not.toBe(id);
    expect(lab.script(`schroot -c ${next} -d / -u root -- ls /usr`)).toContain('bin');
    logsOut(lab, alice);
  });

  it('gives no program of root the variables that the user sets in PAM', async () => {
    await withVariables(lab, alice, async () => {
      const id = await isIn(lab, alice);
      mustBeInside(lab, alice, id, 'openbox', 'systemd');
      logsOut(lab, alice);
      expect(startedWithVariables(lab)).toEqual(['alice']);
    });
  });

  it('on Wayland is inside', async () => {
    lab.choose('alice', 'weston');
    const id = await isIn(lab, alice, 'weston');
    await lab.still();
    lab.shot('gdm-wayland');
    mustBeInside(lab, alice, id, 'weston', 'systemd');
    logsOut(lab, alice, 'weston');
    lab.choose('alice', 'openbox');
  });
});

describe('two people at once', () => {
  it('by the terminal of the greeter, each in their own session, and each ends alone', async () => {
    const a = await isIn(lab, alice);
    lab.press('ctrl', 'alt', 'f1');
    lab.choose('bob', 'weston');
    const b = await isIn(lab, bob, 'weston');
    await lab.still();
    lab.shot('gdm-switch-bob');
    mustLive(lab, alice, a);
    mustLive(lab, bob, b, 'weston');
    lab.press('ctrl', 'alt', 'f1');
    await lab.greeter();
    await lab.logIn(alice); // is there already: gdm opens and closes a PAM session that is no login
    await inFront(lab, alice);
    await lab.still();
    lab.shot('gdm-switch-alice-again');
    mustLive(lab, alice, a);
    mustLive(lab, bob, b, 'weston');
    await ends(lab, alice);
    mustLive(lab, bob, b, 'weston');
    await ends(lab, bob, 'weston');
  });
});

describe('somebody who is to be refused', () => {
  it('sees why on the screen; nothing is started, and the greeter asks again', async () => {
    await whileFull(async () => {
      await lab.greeter();
      await lab.logIn(alice);
      await waitFor(() => logged('mayfly', 'login of alice is refused') > 0, 120, 'the refusal');
      await sleep(4000);
      lab.shot('gdm-refused'); // the words stand there for some seconds, and then the greeter asks again
      await waitFor(() => logged('gdm-password]', 'pam_exec.* failed') > 0, 120, 'the end of it');
      mustBeGone(lab, alice);
      expect(lab.processes('alice')).toEqual([]);
      await lab.still();
      lab.shot('gdm-refused-later');
    });
    await lab.keys(alice.password); // the name is still known
    await desktop(lab, alice, 'openbox');
    logsOut(lab, alice);
  });

  it.each(['openbox', 'gnome'])('is refused an automatic login, to %s, once, and has a greeter', async to => {
    lab.choose('alice', to);
    const automatic = '[daemon]\\nAutomaticLoginEnable=true\\nAutomaticLogin=alice';
    lab.script(
      `cp -p /etc/gdm3/daemon.conf /root; sed -i 's/^\\[daemon]/${automatic}/' /etc/gdm3/daemon.conf`,
    );
    await whileFull(async () => {
      const begun = () => logged('gdm-autologin]', 'session opened for user alice');
      const before = begun();
      lab.must('systemctl', 'restart', 'gdm');
      if (to === 'openbox') {
        await waitFor(() => lab.run('pgrep', '-u', 'alice', '-x', 'zenity').code === 0, 240, 'the window');
        await lab.still();
        lab.shot('gdm-automatic');
        await lab.keys(''); // it is read
      } // on Wayland there is no window without a desktop
      await lab.greeter();
      lab.shot(`gdm-automatic-${to}-after`);
      expect(lab.sessions('alice')).toEqual([]);
      expect(begun() - before).toBe(1);
      lab.script('cp -p /root/daemon.conf /etc/gdm3');
    });
    lab.choose('alice', 'openbox');
    const id = await isIn(lab, alice);
    mustLive(lab, alice, id);
    logsOut(lab, alice);
  });
});

describe('GNOME on Wayland', () => {
  it('is inside; locked, it is found again, or left to somebody else by its button; then all of it is gone', async () => {
    lab.choose('alice', 'gnome');
    lab.choose('bob', 'openbox');
    const id = await isIn(lab, alice, 'gnome-shell');
    const painted = [
      'journalctl',
      '-b',
      '-q',
      `_UID=${lab.must('id', '-u', 'alice').trim()}`,
      '-g',
      'Registering session with GDM',
    ];
    await waitFor(() => lab.run(...painted).out !== '', 240, 'the shell');
    await lab.still(5);
    lab.shot('gdm-gnome');
    mustBeInside(lab, alice, id, 'gnome-shell', 'gnome-session-b', 'gsd-power', 'systemd');

    const own = lab.must('loginctl', 'show-user', 'alice', '-p', 'Display', '--value').trim();
    const isLocked = () =>
      lab.must('loginctl', 'show-session', own, '-p', 'LockedHint', '--value') === 'yes\n';
    const lock = async () => {
      lab.must('loginctl', 'lock-session', own);
      await waitFor(isLocked, 60, 'the lock');
      await lab.still(5);
      await lab.keys(''); // the clock goes, and it asks for the password
      await lab.still(5);
    };
    await lock();
    lab.shot('gdm-gnome-locked');
    await lab.keys('no');
    await sleep(8000);
    await lab.still(5); // it asks again
    expect(isLocked()).toBe(true);
    await lab.keys(alice.password);
    await waitFor(() => !isLocked(), 60, 'the desktop');
    mustLive(lab, alice, id, 'gnome-shell');

    await lock();
    lab.click(749, 549); // two heads, at the bottom on the right
    const b = await isIn(lab, bob);
    mustLive(lab, alice, id, 'gnome-shell');
    mustLive(lab, bob, b);
    await ends(lab, bob);
    await lab.greeter();
    await lab.logIn(alice);
    await inFront(lab, alice);
    mustLive(lab, alice, id, 'gnome-shell');
    logsOut(lab, alice, 'gnome-session-b'); // the shell alone would be started again
    lab.choose('alice', 'openbox');
  });
});

describe('mayfly disable gdm', () => {
  it('leaves every file as it was, and a login gets the host', async () => {
    await lab.greeter();
    console.log(lab.must('mayfly', 'disable', 'gdm'));
    expect(lab.configuration()).toBe(before);
    lab.must('systemctl', 'restart', 'gdm');
    expect(await isIn(lab, alice)).toBe('');
    expect(lab.processes('alice').filter(p => p.root !== '/')).toEqual([]);
  });
});
