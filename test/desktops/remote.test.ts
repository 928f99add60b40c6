/**
 * Remote desktops on a booted machine: xrdp with a real client, tigervnc's service, and a VNC server that a user starts
 * over ssh; alone, and together with a login at the seat in both orders.
 */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { alice, isIn, mustBeGone, runs, tell, withMayfly } from '../desktop/desk.ts';
import { BASE, Machine } from '../desktop/machine.ts';
import { until } from '../system/lab.ts';

const PACKAGES = `${BASE},openssh-server,openssh-client,xrdp,xorgxrdp,tigervnc-standalone-server`;

/** The desktop of remote logins; that at the seat is openbox. */
const DESKTOP = 'xterm';

const SEAT = 'openbox';

/** The screen of another computer. */
const SCREEN = `[Service]
ExecStart=/usr/bin/Xtigervnc :50 -SecurityTypes None -rfbport 5950 -geometry 1024x768
[Install]
WantedBy=multi-user.target
`;

let lab: Machine;
let before: string;

const ssh = (command: string): void =>
  void lab.must(
    ...['timeout', '60', 'ssh', '-i', '/root/key', '-o', 'BatchMode=yes'],
    'alice@127.0.0.1',
    command,
  );

/** Ends a program of alice's: a desktop of which it is the first ends. */
const quit = (program: string): void => void lab.must('pkill', '-u', 'alice', '-x', program);

/** Alice's only session. */
const theSession = (): string => {
  const [id = '', ...others] = lab.sessions('alice');
  expect(others).toEqual([]);
  return id;
};

/** The kinds of the logins in it. */
const logins = (): string[] => {
  const all = JSON.parse(lab.must('mayfly', 'sessions', '--json')) as { logins: string[] }[];
  return all.flatMap(s => s.logins.map(l => l.replace(/ .*/, ''))).sort();
};

/** The login at the seat is over, and these are left, with the remote desktop in their session. */
async function seatIsOver(id: string, left: readonly string[]): Promise<void> {
  quit(SEAT);
  await until(() => logins().join() === left.join(), 30_000);
  await until(() => lab.run('systemctl', 'is-active', `mayfly-end@${id}`).out !== 'active\n', 10_000);
  remoteIsIn(id);
}

function remoteIsIn(id: string): void {
  const roots = lab.processes('alice').filter(p => p.program === DESKTOP);
  expect(roots.map(p => p.root)).toEqual([`/run/mayfly/roots/${id}`]);
}

/** The last login is over, and nothing is left. */
async function lastIsOver(program: string): Promise<void> {
  quit(program);
  await until(() => lab.sessions('alice').length === 0, 30_000);
  mustBeGone(lab, alice);
  // The server of the remote desktop is on the host, and ends with it.
  await until(() => lab.processes('alice').every(p => p.program !== 'Xorg' && p.program !== 'xrdp-chansrv'));
}

describe.each([
  ['Debian 12', undefined, 'freerdp2-x11', 'xfreerdp'],
  ['Debian 13', 'trixie', 'freerdp3-x11', 'xfreerdp3'],
])('%s', (_release, suite, packages, client) => {
  beforeAll(async () => {
    lab = Machine.make([alice], `${PACKAGES},${packages}`, suite);
    // Ended by a signal, xterm has another exit code, which would be shown as a failure of the desktop for a minute.
    fs.writeFileSync(lab.at('/home/alice/.xsession'), `${DESKTOP}\nexit 0\n`);
    fs.writeFileSync(lab.at('/etc/tigervnc/vncserver.users'), ':4=alice\n');
    fs.appendFileSync(lab.at('/etc/tigervnc/vncserver-config-defaults'), '$SecurityTypes = "None";\n');
    fs.writeFileSync(lab.at('/etc/systemd/system/screen.service'), SCREEN);
    await withMayfly(lab, () => {
      lab.script(`
        systemctl enable --quiet screen.service
        usermod -aG ssl-cert xrdp # as its README says, for TLS
        ssh-keygen -q -t ed25519 -N '' -f /root/key
        mkdir -p /root/.ssh; echo "127.0.0.1 $(cat /etc/ssh/ssh_host_ed25519_key.pub)" >/root/.ssh/known_hosts
        install -d -o alice -g alice -m 700 /home/alice/.ssh
        install -o alice -g alice -m 600 /root/key.pub /home/alice/.ssh/authorized_keys`);
    });
    before = lab.configuration();
    for (const server of ['xrdp', 'tigervnc']) console.log(lab.must('mayfly', 'enable', server));
  });
  afterEach(({ task }) => tell(lab, task));
  afterAll(() => lab.close());

  const disconnect = (): void => void lab.run('systemctl', 'stop', 'rdp.service');

  const startClient = (): void => {
    lab.run('systemctl', 'reset-failed', 'rdp.service');
    const unit = ['--unit=rdp', '--setenv=DISPLAY=:50', '--setenv=HOME=/root'];
    const words = ['/v:127.0.0.1', `/u:${alice.name}`, `/p:${alice.password}`, '/cert:ignore'];
    lab.must('systemd-run', '-q', ...unit, client, ...words);
  };

  /**
   * Connects the client, with name and password, and waits until this program of the person runs. xrdp begins to listen
   * twice when it starts: a client that comes in between fails, and a person tries again.
   */
  async function connect(program: string): Promise<void> {
    disconnect();
    startClient();
    await until(() => {
      if (lab.run('pgrep', '-u', alice.name, '-x', program).code === 0) return true;
      if (lab.run('systemctl', 'is-failed', 'rdp.service').code === 0) startClient();
      return false;
    }, 60_000);
    await runs(lab, alice, program);
  }

  describe('xrdp', () => {
    it('has a session, which is there again after the connection was cut, and ends with the desktop', async () => {
      await connect(DESKTOP);
      const id = theSession();
      expect(logins()).toEqual(['pam']);
      remoteIsIn(id);
      const manager = lab.processes('alice').filter(p => p.program === 'systemd');
      expect(manager.map(p => p.root)).toEqual([`/run/mayfly/roots/${id}`]);
      expect(lab.run('mayfly', 'doctor', '--quiet').out).not.toMatch(/remote desktops/);
      const refused = lab.run('mayfly', 'disable', 'xrdp');
      expect(refused.err).toContain(`there are sessions: ${id}`);
      disconnect();
      await connect(DESKTOP);
      expect([theSession(), logins()]).toEqual([id, ['pam']]);
      await lastIsOver(DESKTOP);
    });

    it('keeps the session of the seat when that login is over', async () => {
      const id = await isIn(lab, alice);
      await connect(DESKTOP);
      expect([theSession(), logins()]).toEqual([id, ['lightdm', 'pam']]);
      await seatIsOver(id, ['pam']);
      await lastIsOver(DESKTOP);
    });

    it('is joined by a login at the seat, which keeps the session', async () => {
      await connect(DESKTOP);
      const id = theSession();
      expect(await isIn(lab, alice)).toBe(id);
      quit(DESKTOP);
      await until(() => logins().join() === 'lightdm', 30_000);
      expect(lab.processes('alice').find(p => p.program === SEAT)?.root).toBe(`/run/mayfly/roots/${id}`);
      await lastIsOver(SEAT);
    });

    it('that is refused shows the reason in the remote desktop', async () => {
      const full = lab.at('/etc/mayfly/conf.d/full.toml');
      onTestFinished(() => fs.rmSync(full, { force: true }));
      fs.writeFileSync(full, '[admission]\nmax_used_percent = 1\n');
      await connect('zenity');
      const words = lab.script('tr "\\0" " " </proc/$(pgrep -n -u alice -x zenity)/cmdline');
      expect(words).toMatch(/Login failed: .* is \d+ % full.*\(MAYFLY-FULL\)/);
      expect(lab.sessions('alice')).toEqual([]);
      quit('zenity');
      await until(() => lab.processes('alice').every(p => p.program !== 'Xorg'), 20_000);
    });
  });

  it('the service of tigervnc has a session from its start to its end', async () => {
    lab.must('systemctl', 'start', 'tigervncserver@:4');
    await runs(lab, alice, DESKTOP);
    remoteIsIn(theSession());
    expect(logins()).toEqual(['pam']);
    lab.must('systemctl', 'stop', 'tigervncserver@:4');
    await until(() => lab.sessions('alice').length === 0, 30_000);
    mustBeGone(lab, alice);
  });

  describe('a login that no hook announces', () => {
    beforeAll(() => void lab.must('mayfly', 'disable', 'xrdp'));

    it('is refused with words and a code if there is no session', async () => {
      await connect('zenity');
      const said = /there is no session for you on this machine \(MAYFLY-NO-SESSION\)/;
      expect(lab.script('tr "\\0" " " </proc/$(pgrep -n -u alice -x zenity)/cmdline')).toMatch(said);
      expect(lab.must('tail', '-n', '3', '/home/alice/.xsession-errors')).toMatch(said);
      expect(lab.run('mayfly', 'doctor', '--quiet').out).toMatch(/hint: mayfly enable xrdp/);
      quit('zenity');
      await until(() => lab.processes('alice').every(p => p.program !== 'Xorg'), 20_000);
    });

    it.each<[string, () => Promise<void>]>([
      ['xrdp', () => connect(DESKTOP)],
      [
        'a VNC server, whose login over ssh is over',
        async () => {
          ssh('tigervncserver :3 -SecurityTypes None -localhost yes');
          await runs(lab, alice, DESKTOP);
        },
      ],
    ])('joins the session of the seat, and keeps it: %s', async (_what, begin) => {
      const id = await isIn(lab, alice);
      await begin();
      expect([theSession(), logins()]).toEqual([id, ['lightdm']]);
      await seatIsOver(id, ['wrapper']);
      await lastIsOver(DESKTOP);
      lab.run('pkill', '-u', 'alice', 'Xtigervnc');
    });

    it('keeps it, too, if the X server of the seat dies', async () => {
      const id = await isIn(lab, alice);
      await connect(DESKTOP);
      lab.must('pkill', '-9', '-x', 'Xvfb');
      await until(() => logins().join() === 'wrapper', 30_000);
      remoteIsIn(id);
      await lastIsOver(DESKTOP);
    });

    it('of a shell over ssh keeps it while logind lists it, and what it leaves behind does not', async () => {
      const id = await isIn(lab, alice);
      ssh(`nohup schroot -c ${id} -d / -- sleep 1001 >/dev/null 2>&1 &`);
      const words = `sleep 1000 | ssh -tt -i /root/key -o BatchMode=yes alice@127.0.0.1 schroot -c ${id} -d / -- sleep 1002`;
      lab.must('systemd-run', '-q', '--unit=shell', 'sh', '-c', words);
      await until(() => lab.run('pgrep', '-u', 'alice', '-f', '^sleep 1002').code === 0, 20_000);
      quit(SEAT);
      await until(() => logins().join() === 'wrapper', 30_000);
      expect(theSession()).toBe(id);
      lab.must('systemctl', 'stop', 'shell');
      await until(() => lab.sessions('alice').length === 0, 30_000);
      mustBeGone(lab, alice);
      expect(lab.run('pgrep', '-u', 'alice', '-f', '^sleep 100').code).toBe(1);
    });
  });

  it('disable leaves every file as it was', () => {
    lab.must('mayfly', 'disable', 'tigervnc');
    expect(lab.configuration()).toBe(before);
  });
});
