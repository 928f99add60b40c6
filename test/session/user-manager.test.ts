/** Where the service manager of a user has its root. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import type { Output } from '../../src/linux/command.ts';
import { redirectUserManager, resetUserManager } from '../../src/session/user-manager.ts';
import type { Machine } from '../../src/state/machine.ts';
import { pathsOf } from '../../src/state/paths.ts';
import type { Session } from '../../src/state/sessions.ts';
import { World } from '../world.ts';

const config = readConfig(new World().host, '/etc/mayfly/mayfly.toml');
const paths = pathsOf(config.directories);
const GROUP = '/user.slice/user-1001.slice/user@1001.service';
const RESTART = 'timeout -k 1 20 systemctl restart user@1001.service';
const STOP = 'systemctl --no-block stop user@1001.service';

/** A machine on which logind says this of the user; `running`: the manager has a process. */
function machineWith(state: string | undefined, running: boolean, code: number) {
  const w = new World();
  for (const path of ['/run/mayfly/users/1001', '/run/systemd/users', `/sys/fs/cgroup${GROUP}`])
    w.makeDirs(path);
  if (state !== undefined) w.put('/run/systemd/users/1001', `# logind\nNAME=alice\nSTATE=${state}\n`);
  const manager = w.processes.get(w.enter('/'));
  if (running && manager) manager.cgroup = GROUP;
  const ran: string[] = [];
  const run = async (c: { file: string; args: readonly string[] }): Promise<Output> => {
    ran.push(`${c.file} ${c.args.join(' ')}`);
    return { code: c.file === 'timeout' ? code : 0, stdout: '', stderr: '' };
  };
  const on: Machine = { ...w.machine(), host: { ...w.host, run } };
  return { w, on, ran };
}

const session = (id: string): Session =>
  ({ user: { name: 'alice', uid: 1001 }, root: `/run/mayfly/roots/${id}` }) as Session;

describe('at a login, the service manager', () => {
  it.each<[string, string | undefined, boolean, number, string[], boolean]>([
    ['of a closing login is restarted', 'closing', true, 0, [RESTART], true],
    ['of a closing login that has ended is started', 'closing', false, 0, [RESTART], true],
    ['of another login is restarted', 'active', true, 0, [RESTART], true],
    ['that lingers is restarted', 'lingering', true, 0, [RESTART], true],
    ['that logind has not started yet is left to it', 'opening', false, 0, [], true],
    ['that does not start is what the login does without', 'active', true, 1, [RESTART], true],
    ['of a closing login that stops too slowly refuses it', 'closing', true, 124, [RESTART, STOP], false],
    ['of another login that stops too slowly refuses it', 'active', true, 124, [RESTART], false],
    ['that logind has stopped is left to it', 'closing\nSTOPPING=yes', false, 0, [], true],
    ['that logind is stopping refuses it if that is slow', 'closing\nSTOPPING=yes', true, 0, [], false],
    ['that nobody is stopping is restarted', 'closing\nSTOPPING=no', true, 0, [RESTART], true],
    ['does not exist if the user is unknown to logind', undefined, false, 0, [], true],
  ])('%s', async (_, state, running, code, expected, succeeds) => {
    const { w, on, ran } = machineWith(state, running, code);
    const done = redirectUserManager(on, session('u1001-0a1b2c3d'));
    if (succeeds) await done;
    else
      await expect(done).rejects.toMatchObject({ code: 'saving', message: expect.stringContaining('alice') });
    expect(ran).toEqual(expected);
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/run/mayfly/roots/u1001-0a1b2c3d');
    resetUserManager(on.host, paths, 1001, '/run/mayfly/roots/u1001-99999999'); // the end of an older session
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/run/mayfly/roots/u1001-0a1b2c3d');
    w.makeDirs('/run/user/1001');
    resetUserManager(on.host, paths, 1001);
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/');
  });
});
