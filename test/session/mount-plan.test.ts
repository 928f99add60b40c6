/** What is mounted in a session besides its tree. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import { existingMounts, planMounts } from '../../src/session/mount-plan.ts';
import { World } from '../world.ts';

const config = readConfig(new World().host, '/etc/mayfly/mayfly.toml');

describe('mounts', () => {
  const plan = (home: string, ephemeral: boolean, root = '/run/mayfly/roots/x') =>
    planMounts(config, root, { path: home, ephemeral, uid: 1001, gid: 1001 }).map(
      m => `${m.target.slice(root.length)} ${m.type} ${m.options}`,
    );

  it('bind directories of the host with rslave only', () => {
    const binds = planMounts(config, '/r', { path: '/home/a', ephemeral: false, uid: 1, gid: 1 }).filter(
      m => m.type === 'none',
    );
    expect(binds.length).toBeGreaterThan(10);
    for (const m of binds) expect(m.options).toMatch(/^(rbind,rslave|bind,slave|bind,slave,ro)$/);
  });
  it('never include all of /run or the private socket of PID 1', () => {
    const sources = planMounts(config, '/r', { path: '/h', ephemeral: false, uid: 1, gid: 1 }).map(
      m => m.source,
    );
    expect(sources).not.toContain('/run');
    expect(sources).not.toContain('/run/systemd');
    expect(sources).not.toContain('/run/systemd/private');
  });
  it.each(['/run/log/journal', '/var/log/journal', '/run/utmp'])('show %s, and let nobody write it', path =>
    expect(plan('/home/a', false)).toContain(`${path} none bind,slave,ro`),
  );
  it('include a home directory outside /home', () =>
    expect(plan('/srv/h/alice', false)).toContain('/srv/h/alice none rbind,rslave'));
  it('give an ephemeral home directory and hide all others', () => {
    const guest = plan('/home/guest', true);
    expect(guest.some(m => m.startsWith('/home/guest tmpfs mode=0700,uid=1001,gid=1001'))).toBe(true);
    expect(guest.some(m => m.startsWith('/home none'))).toBe(false);
  });
  it('give guests directories of their own where others leave files, and the sockets of X servers', () => {
    const guest = plan('/home/guest', true);
    const paths = guest.map(m => m.split(' ')[0]);
    for (const path of ['/tmp', '/var/tmp', '/run/lock', '/run/xrdp/sockdir'])
      expect(paths).not.toContain(path);
    expect(guest.filter(m => m.startsWith('/dev/shm '))).toEqual([
      '/dev/shm tmpfs mode=1777,nosuid,nodev,nr_inodes=200k,size=25%',
    ]);
    expect(guest).toContain('/tmp/.X11-unix none bind,slave');
    for (const path of ['/tmp', '/var/tmp', '/run/lock', '/run/xrdp/sockdir', '/dev/shm'])
      expect(plan('/home/a', false)).toContain(`${path} none bind,slave`);
  });
  it.each([
    ['a directory of root', 'dir', 0, 1],
    ['a directory of somebody else', 'dir', 1002, 0],
    ['a symlink', 'link', 0, 0],
    ['nothing', undefined, 0, 0],
  ] as const)('show a guest the sockets of X servers in %s: %s %i', (_what, kind, uid, count) => {
    const host = { lstat: () => kind && { kind, uid }, pathType: () => 'dir' } as unknown as World['host'];
    const home = { path: '/home/guest', ephemeral: true, uid: 1001, gid: 1001 };
    const mounts = planMounts(config, '/r', home).filter(m => m.source === '/tmp/.X11-unix');
    expect(existingMounts(host, mounts)).toHaveLength(count);
  });
  it.each([
    ['a machine', { '/dev': 5, '/dev/null': 5, '/dev/ptmx': 5 }, 'bind,slave'],
    ['a machine without udev', { '/dev': 5, '/dev/null': 5 }, 'bind,slave'],
    ['a container whose devices are mounts', { '/dev': 9, '/dev/null': 5, '/dev/ptmx': 7 }, 'rbind,rslave'],
    ['one with a mount for terminals only', { '/dev': 9, '/dev/null': 9, '/dev/ptmx': 7 }, 'rbind,rslave'],
  ])('show the devices of %s', (_what, devices: Readonly<Record<string, number>>, options) => {
    const lstat = (path: string) => devices[path] && { kind: 'dir', dev: devices[path] };
    const host = { lstat, pathType: () => 'dir' } as unknown as World['host'];
    const home = { path: '/home/a', ephemeral: false, uid: 1001, gid: 1001 };
    const mounts = planMounts(config, '/r', home).filter(m => m.source.startsWith('/dev'));
    expect(existingMounts(host, mounts).map(m => `${m.source} ${m.options}`)).toEqual([
      `/dev ${options}`,
      ...['/dev/pts', '/dev/shm', '/dev/mqueue'].map(path => `${path} bind,slave`),
    ]);
  });
  it('do not bind the mount points of sessions into themselves', () => {
    expect(plan('/home/a', false, '/home/sandbox/roots/x')).toContain('/home none bind,slave');
  });
});
