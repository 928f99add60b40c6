/** Who has time at the end of a login, and whose service manager is where, in each order of a person's logins. */
import { expect, it, onTestFinished } from 'vitest';
import { until } from '../system/lab.ts';
import { alice, endsBy, isIn, mustBeGone, runs } from './desk.ts';
import type { Machine } from './machine.ts';

/** A command as alice, for her manager. */
const asAlice = (lab: Machine, command: string): string =>
  lab.script(
    `cd /; runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) LC_ALL=C.UTF-8 ${command} 2>&1 || true`,
  );

/** Where her manager is: "none", "host", or the session that it is in. */
function manager(lab: Machine): string {
  return lab
    .script(`pid=$(systemctl show -p MainPID --value user@$(id -u alice).service)
      [ "$pid" != 0 ] && [ -d /proc/$pid ] || { echo none; exit; }
      if [ /proc/$pid/root -ef / ]; then echo host; exit; fi
      for root in /run/mayfly/roots/u*; do [ /proc/$pid/root -ef $root ] && basename $root; done; true`)
    .trim();
}

/** Another login of hers, as on a console or over ssh, which no hook announces; ends with `other.end()`. */
function otherLogin(lab: Machine, unit = 'other') {
  lab.script(
    `systemd-run --quiet --unit=${unit} -p PAMName=login -p User=alice -p KillMode=control-group sleep infinity`,
  );
  const isThere = (): boolean => lab.run('systemctl', 'is-active', '--quiet', `${unit}.service`).code === 0;
  return { isThere, end: () => lab.run('systemctl', 'stop', `${unit}.service`) };
}

/** Her manager answers those who are logged in. One that has just been started has no bus for a moment. */
async function works(lab: Machine): Promise<void> {
  const state = (): string => asAlice(lab, 'systemctl --user is-system-running').trim();
  const isUp = (): boolean => /^(running|degraded|starting)$/.test(state());
  await until(isUp, 60_000).catch(() => undefined);
  expect(state()).toMatch(/^(running|degraded|starting)$/);
}

const forgotten = (lab: Machine): Promise<void> =>
  until(() => lab.run('sh', '-c', 'test -e /run/systemd/users/$(id -u alice)').code !== 0, 60_000);

export function endings(lab: () => Machine, orders: readonly string[]): void {
  it('programs and services that save have time, and whoever ignores the word has none', async () => {
    const m = lab();
    m.script('rm -f /home/alice/saved-*');
    const id = await isIn(m, alice);
    const inside = (script: string): string =>
      m.script(`setsid -f schroot -c ${id} -d / -u alice -- sh -c '${script}' >/dev/null 2>&1 </dev/null`);
    inside(
      'trap "sleep 2; echo all >/home/alice/saved-program; exit" TERM; touch /home/alice/saved-ready; while :; do sleep 0.1; done',
    );
    inside('trap "" TERM HUP; while :; do sleep 1; done');
    const unit = '/bin/sh -c "sleep 3; echo all >/home/alice/saved-service"';
    asAlice(
      m,
      `systemd-run --user --quiet --unit=keeper -p 'ExecStop=${unit}' -p TimeoutStopSec=60 sleep infinity`,
    );
    await until(() => m.run('test', '-e', '/home/alice/saved-ready').code === 0, 10_000);
    expect(asAlice(m, 'systemctl --user is-active keeper').trim()).toBe('active');
    const after = endsBy(m, alice, 'pkill -u alice -x openbox');
    console.log(`gone ${after.toFixed(1)} s after logind's session`);
    mustBeGone(m, alice);
    expect(m.script('cat /home/alice/saved-program /home/alice/saved-service')).toBe('all\nall\n');
    const journal = m.script(`journalctl -o cat --no-pager MAYFLY_SESSION=${id}`);
    console.log(journal);
    expect(journal).toMatch(/still ending: .*process \d+ sh\b.* at work/);
    expect(journal).toMatch(/still ending: the services keeper\.service at work/);
    expect(journal).not.toMatch(/killed/);
    const unitLog = m.script('journalctl -o cat --no-pager -u user@$(id -u alice).service -n 20');
    expect(unitLog).not.toMatch(/Failed with result|status=9/);
    await m.greeter();
  });

  it('the next login does not wait for programs, and waits for services; both are whole', async () => {
    const m = lab();
    m.script('rm -f /home/alice/saved-*');
    const first = await isIn(m, alice);
    m.script(
      `setsid -f schroot -c ${first} -d / -u alice -- sh -c 'trap "until [ -e /home/alice/saved-go ]; do sleep 0.1; done; echo all >/home/alice/saved-program; exit" TERM; touch /home/alice/saved-ready; while :; do sleep 0.1; done' >/dev/null 2>&1 </dev/null`,
    );
    m.script(`printf '[logout]\\ngrace = 300\\n' >/etc/mayfly/conf.d/grace.toml`);
    const unit = '/bin/sh -c "sleep 3; echo all >/home/alice/saved-service"';
    asAlice(
      m,
      `systemd-run --user --quiet --unit=keeper -p 'ExecStop=${unit}' -p TimeoutStopSec=60 sleep infinity`,
    );
    await until(() => m.run('test', '-e', '/home/alice/saved-ready').code === 0, 10_000);
    m.must('pkill', '-u', 'alice', '-x', 'openbox');
    await m.greeter();
    await m.logIn(alice);
    await runs(m, alice, 'openbox', 60_000);
    expect(m.must('mayfly', 'sessions')).toMatch(new RegExp(`${first}.*ending: waits for process`));
    const mine = m.sessions('alice').find(id => id !== first) ?? '';
    await until(() => manager(m) === mine, 30_000);
    await works(m);
    expect(m.script('cat /home/alice/saved-service')).toBe('all\n');
    m.script('touch /home/alice/saved-go');
    await until(() => m.sessions('alice').length === 1, 30_000);
    expect(m.script('cat /home/alice/saved-program')).toBe('all\n');
    expect(manager(m)).toBe(mine);
    m.script('rm /etc/mayfly/conf.d/grace.toml');
    endsBy(m, alice, 'pkill -u alice -x openbox');
    mustBeGone(m, alice);
  });

  /** D, d: at the greeter, in and out; O, o: another login of hers, in and out. */
  it.each(orders)('logins in the order %s keep their manager', async order => {
    const m = lab();
    let other: ReturnType<typeof otherLogin> | undefined;
    for (const event of order) {
      if (event === 'O') {
        other = otherLogin(m, `other-${order}`);
        await until(() => manager(m) !== 'none', 60_000);
      }
      if (event === 'o') {
        other?.end();
        other = undefined;
      }
      if (event === 'D') await isIn(m, alice);
      if (event === 'd') endsBy(m, alice, 'pkill -u alice -x openbox');
      const [id] = m.sessions('alice');
      console.log(`${event}: ${manager(m)}, session ${id ?? 'none'}`);
      if (id !== undefined) await until(() => manager(m) === id, 60_000);
      else if (other) await until(() => manager(m) === 'host', 60_000);
      if (other) expect(other.isThere(), `${event} of ${order}`).toBe(true);
      if (id !== undefined || other) await works(m);
      if (event === 'd') mustBeGone(m, alice);
    }
    await forgotten(m);
    expect(manager(m)).toBe('none');
  });

  it('one who lingers from before has a manager on the host, in the session, and on the host again', async () => {
    const m = lab();
    // As an earlier "loginctl enable-linger", which in Debian 13 needs udev.
    const linger = '/var/lib/systemd/linger/alice';
    m.script(`mkdir -p /var/lib/systemd/linger; touch ${linger}; systemctl restart systemd-logind`);
    onTestFinished(() => void m.run('rm', '-f', linger));
    await until(() => manager(m) === 'host', 60_000);
    expect(m.run('mayfly', 'doctor', '--quiet').out).toMatch(/services of "alice" run on the host/);
    const id = await isIn(m, alice);
    expect(manager(m)).toBe(id);
    await works(m);
    endsBy(m, alice, 'pkill -u alice -x openbox');
    mustBeGone(m, alice);
    await until(() => manager(m) === 'host', 60_000);
    await works(m);
    // A logind that starts again knows nothing of a user who neither lingers nor is logged in.
    m.script(`rm ${linger}; systemctl restart systemd-logind; systemctl stop user@$(id -u alice).service`);
    expect(manager(m)).toBe('none');
    await m.greeter();
  });

  it('nobody in scope may linger, others may', () => {
    const m = lab();
    const scope = '/etc/mayfly/conf.d/scope.toml';
    const ask = (name: string): number =>
      m.run(
        'sh',
        '-c',
        `systemd-run --quiet --unit=asks -p User=${name} sleep 60
        pid=$(systemctl show -p MainPID --value asks.service)
        pkcheck -a org.freedesktop.login1.set-self-linger -p $pid,$(cut -d" " -f22 /proc/$pid/stat),$(id -u ${name})
        code=$?; systemctl stop asks.service; exit $code`,
      ).code;
    onTestFinished(() => void m.run('rm', '-f', scope));
    m.script(
      `echo 'exclude = ["root", "bob"]' >${scope}; mayfly config >/dev/null; mayfly status >/dev/null`,
    );
    expect([ask('alice'), ask('bob')]).toEqual([1, 0]);
    m.script(`rm ${scope}; mayfly status >/dev/null`);
    expect(ask('bob')).toBe(1);
  });
}
