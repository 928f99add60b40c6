/** Logins typed at the real gdm: desktops on X and on Wayland, and what a person sees who is refused. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Person } from '../desktop/workstation.ts';
import { sleep } from '../system/lab.ts';
import { Vm, waitFor } from './vm.ts';

const alice: Person = { name: 'alice', password: 'wonder' };
/** How long after logind a session may still be there, in seconds; the machine is slow. */
const LIMIT = 30;
/** What of a login is on the host, as it must be: gdm's own part, the X server, and the manager's PAM session. */
const ON_HOST = ['gdm-x-session', 'gdm-wayland-ses', 'Xorg', '(sd-pam)'];

let lab: Vm;

beforeAll(async () => {
  lab = Vm.make([alice], 'gdm3');
  await lab.boot();
  lab.choose('alice', 'openbox');
});
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  console.log(task.result.errors?.map(e => e.message).join('\n'));
  lab.shot(`failed-${task.name.replace(/\W+/g, '-').slice(0, 40)}`);
  console.log(lab.run('journalctl', '--no-pager', '-b', '-n', '80').out);
  await lab.off('plug'); // the next case begins with a greeter
  await lab.boot();
});
afterAll(() => lab.close());

/** A typed login of alice; resolves with the id of her session when `program` of her desktop runs. */
async function aliceIsIn(program: string): Promise<string> {
  await lab.greeter();
  const began = Date.now();
  await lab.logIn(alice);
  await waitFor(() => lab.run('pgrep', '-u', 'alice', '-x', program).code === 0, 300, program);
  console.log(`${program}: ${((Date.now() - began) / 1000).toFixed(0)} s after the first key`);
  const [id] = lab.sessions('alice');
  expect(id).toBeDefined();
  return id ?? '';
}

/** Everything of alice's is inside, but for what belongs on the host. */
function mustBeInside(id: string, programs: readonly string[]): void {
  const all = lab.processes('alice');
  console.log(all.map(p => `${p.root} ${p.program}`).join('\n'));
  expect(all.map(p => p.program)).toEqual(expect.arrayContaining([...programs]));
  const outside = all.filter(p => p.root !== `/run/mayfly/roots/${id}` && !ON_HOST.includes(p.program));
  expect(outside).toEqual([]);
}

/** Ends it, and nothing is left. */
function logOut(program: string): void {
  const after = lab.endsBy(`pkill -x ${program}`, 'alice');
  console.log(`logout: gone ${after.toFixed(1)} s after logind's session`);
  expect(after).toBeLessThan(LIMIT);
  expect(lab.leftOf('alice')).toEqual([]);
}

describe('a login typed at gdm', () => {
  it('on X is inside, with its services, and what is broken in it is whole at the next', async () => {
    const id = await aliceIsIn('openbox');
    await lab.still();
    lab.shot('gdm-x');
    mustBeInside(id, ['openbox', 'systemd', 'dbus-daemon', 'pipewire']);
    lab.script(`schroot -c ${id} -d / -u root -- rm -rf /usr 2>/dev/null || true; test -e /usr/bin/sh`);
    logOut('openbox');
    const next = await aliceIsIn('openbox');
    expect(next).not.toBe(id);
    expect(lab.script(`schroot -c ${next} -d / -u root -- ls /usr`)).toContain('bin');
    logOut('openbox');
  });

  it('on Wayland is inside', async () => {
    lab.choose('alice', 'weston');
    const id = await aliceIsIn('weston');
    await lab.still();
    lab.shot('gdm-wayland');
    mustBeInside(id, ['weston', 'systemd']);
    logOut('weston');
    lab.choose('alice', 'openbox');
  });
});

describe('a login that gdm is to refuse', () => {
  const full = '/etc/mayfly/conf.d/full.toml';

  it('says why on the screen, starts nothing, and asks again', async () => {
    lab.put(full, '[admission]\nmax_used_percent = 1\n');
    await lab.greeter();
    await lab.logIn(alice);
    const refused = ['journalctl', '-b', '-q', '-t', 'gdm-password]', '-g', 'pam_exec.* failed'];
    await waitFor(() => lab.run(...refused).out !== '', 120, 'the refusal');
    for (let i = 1; i <= 3; i++) {
      lab.shot(`gdm-refused-${i}`); // it stands there for some seconds
      await sleep(2000);
    }
    expect(lab.leftOf('alice')).toEqual([]);
    expect(lab.processes('alice')).toEqual([]);
    await sleep(15_000);
    lab.shot('gdm-refused-later');
    lab.must('rm', full);
    await lab.keys(alice.password); // the name is still known
    await waitFor(() => lab.run('pgrep', '-u', 'alice', '-x', 'openbox').code === 0, 300, 'the desktop');
    logOut('openbox');
  });

  it('with automatic login does not go round and round, and leaves a greeter', async () => {
    lab.put(full, '[admission]\nmax_used_percent = 1\n');
    const automatic = '[daemon]\\nAutomaticLoginEnable=true\\nAutomaticLogin=alice';
    lab.script(
      `cp -p /etc/gdm3/daemon.conf /root; sed -i 's/^\\[daemon]/${automatic}/' /etc/gdm3/daemon.conf`,
    );
    lab.must('systemctl', 'restart', 'gdm');
    for (let i = 1; i <= 3; i++) {
      await sleep(30_000);
      lab.shot(`gdm-automatic-${i}`);
    }
    const rounds = lab.run('journalctl', '-b', '-q', '-t', 'gdm-autologin]', '-g', 'pam_exec.* failed').out;
    console.log(`refused automatic logins in a minute and a half:\n${rounds}`);
    const greeter = lab.run('pgrep', '-u', 'Debian-gdm', '-x', 'gnome-shell').code;
    lab.script(`cp -p /root/daemon.conf /etc/gdm3; rm ${full}`);
    expect(rounds.trim().split('\n')).toHaveLength(1); // with gdm's scripts alone it was one each ten seconds
    expect(greeter, 'nobody can log in: there is no greeter').toBe(0);
  });
});

describe('GNOME', () => {
  it('on Wayland is inside', async () => {
    lab.choose('alice', 'gnome');
    lab.must('systemctl', 'restart', 'gdm');
    const id = await aliceIsIn('gnome-shell');
    await lab.still(5);
    lab.shot('gdm-gnome');
    mustBeInside(id, ['gnome-shell', 'systemd']);
    logOut('gnome-session-b'); // the shell alone would be started again
    lab.choose('alice', 'openbox');
  });
});
