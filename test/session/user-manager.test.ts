/** Where the service manager of a user has its root. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import type { Host } from '../../src/linux/host.ts';
import { redirectUserManager, resetUserManager } from '../../src/session/user-manager.ts';
import { pathsOf } from '../../src/state/paths.ts';
import { World } from '../world.ts';

const config = readConfig(new World().host, '/etc/mayfly/mayfly.toml');

describe('at a login, the service manager', () => {
  it.each([
    [
      'of a closing login is restarted',
      '# logind\nNAME=alice\nSTATE=closing\n',
      ['restart user@1001.service'],
    ],
    ['of another login is left alone', '# logind\nNAME=alice\nSTATE=active\n', []],
    ['that lingers is left alone', '# logind\nNAME=alice\nSTATE=lingering\n', []],
    ['does not exist if the user is unknown to logind', undefined, []],
  ])('%s', async (_, text, expected) => {
    const w = new World();
    w.makeDirs('/run/mayfly/users/1001');
    w.makeDirs('/run/systemd/users');
    if (text !== undefined) w.put('/run/systemd/users/1001', text);
    const ran: string[] = [];
    const host: Host = {
      ...w.host,
      run: async c => {
        ran.push(c.args.join(' '));
        return { code: 0, stdout: '', stderr: '' };
      },
    };
    await redirectUserManager(host, pathsOf(config.directories), 1001, '/run/mayfly/roots/u1001-0a1b2c3d');
    expect(ran).toEqual(expected);
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/run/mayfly/roots/u1001-0a1b2c3d');
    resetUserManager(host, pathsOf(config.directories), 1001, '/run/mayfly/roots/u1001-99999999'); // the end of an older session
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/run/mayfly/roots/u1001-0a1b2c3d');
    w.makeDirs('/run/user/1001');
    resetUserManager(host, pathsOf(config.directories), 1001);
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/');
  });
});
