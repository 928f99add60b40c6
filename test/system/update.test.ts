/** Real upgrades of a real tree: what reaches the next login, what stays with the living ones, what is not left. */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Mirror, realAndOld } from './debs.ts';
import { forgetUsers, Lab, MAYFLY, must, type Ran, sh, user } from './lab.ts';
import { running, stable } from './updates.ts';

const A = 'mayfly-up';
const B = 'mayfly-up2';
let lab: Lab;
let mirror: Mirror;

beforeAll(async () => {
  user(A);
  user(B);
  mirror = await Mirror.start();
});
afterEach(() => lab.close());
afterAll(() => {
  mirror.stop();
  forgetUsers();
});

function versionInside(who: string, name: string): string {
  const { out } = lab.inside(who, 'dpkg', '-s', name);
  return ['Version', 'Status'].map(key => new RegExp(`^${key}: (.*)$`, 'm').exec(out)?.[1]).join(' ');
}

const filesOf = (number: number, path: string): string => `${lab.dir}/pool/generations/${number}${path}`;

function install(file: string): Ran {
  const words = ['sh', '-c', 'cat >/root/new.deb && dpkg -i /root/new.deb && rm /root/new.deb'];
  const args = [MAYFLY, 'enter', 'master', '--config', lab.config, '--promote', '--', ...words];
  return sh('node', args, { input: fs.readFileSync(file) });
}

describe.each(['overlay', 'btrfs'] as const)('apt from the mirror, on %s', backend => {
  it('brings what is old up to date for the next login, and for nobody who is in', () => {
    const scratch = fs.mkdtempSync('/var/lib/mayfly-debs-');
    fs.chmodSync(scratch, 0o755);
    try {
      const { version, old } = realAndOld(scratch, 'hello');
      lab = Lab.make({ backend });
      expect(install(old)).toMatchObject({ code: 0 });
      expect(stable(lab)).toBe(2);
      expect(lab.hook('start', A, ':0')).toMatchObject({ code: 0 });
      expect(versionInside(A, 'hello')).toBe('0.1-1 install ok installed');
      const held = lab.picture();

      const r = lab.mayfly('update');
      expect(r).toMatchObject({ code: 0, out: '' });
      expect(r.err).toMatch(
        /refresh took .*\n.*compare took .*\n.*seal took .*\n.*check took .*\n.*promote took .*\n(.*\n)*.*generation 3 is stable/,
      );
      expect(stable(lab)).toBe(3);
      expect(versionInside(A, 'hello')).toBe('0.1-1 install ok installed');
      expect(lab.picture()).toMatchObject({ mounts: held.mounts, processes: held.processes });

      expect(lab.hook('start', B, ':1')).toMatchObject({ code: 0 });
      expect(versionInside(B, 'hello')).toBe(`${version} install ok installed`);
      expect(lab.inside(B, 'hello').out).toBe('Hello, world!\n');
      expect(lab.inside(B, 'dpkg', '--audit').out).toBe('');
      expect(fs.existsSync(filesOf(3, '/usr/sbin/policy-rc.d'))).toBe(false);

      const again = lab.mayfly('update');
      expect(again).toMatchObject({ code: 0 });
      expect(again.err).toMatch(/nothing has changed; no new generation was created\n$/);
      expect(JSON.parse(lab.mayfly('update', '--json', '--quiet').out)).toEqual({ result: 'unchanged' });
      expect(stable(lab)).toBe(3);
      expect(fs.readdirSync(`${lab.dir}/pool`).filter(n => n.startsWith('work'))).toEqual([]);
      lab.hook('stop', A, ':0');
      lab.hook('stop', B, ':1');
    } finally {
      fs.rmSync(scratch, { recursive: true });
    }
  });
});

describe('apt as configured', () => {
  const update = (more: string): void => lab.configure(`[update]\n${mirror.config}${more}`);

  it('installs missing packages from the configured sources through the configured proxy', () => {
    const files = (text: string) => ({
      '/etc/one.conf': text,
      '/etc/gone.conf': text,
      '/etc/same.conf': text,
    });
    mirror.add({ name: 'mayfly-one', version: '1', files: files('one\n') });
    lab = Lab.make({ backend: 'btrfs' });
    update('packages = ["mayfly-one"]');
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    expect(mirror.requests()).toContain('http://mirror.invalid/debian/./Packages');
    expect(fs.readFileSync(filesOf(2, '/etc/one.conf'), 'utf8')).toBe('one\n');
    expect(lab.mayfly('update').err).toMatch(/nothing has changed/);

    // A configuration file that the administrator changed is kept, unless it is to be replaced.
    const edit = 'echo mine >/etc/one.conf; rm /etc/gone.conf';
    expect(lab.mayfly('enter', 'master', '--promote', '--', 'sh', '-c', edit)).toMatchObject({ code: 0 });
    mirror.add({ name: 'mayfly-one', version: '2', files: files('two\n') });
    const kept = lab.mayfly('update', '--json');
    expect(kept).toMatchObject({ code: 0 });
    expect(fs.readFileSync(filesOf(stable(lab), '/etc/one.conf'), 'utf8')).toBe('mine\n');
    expect(fs.existsSync(filesOf(stable(lab), '/etc/gone.conf'))).toBe(false);
    expect(fs.readFileSync(filesOf(stable(lab), '/etc/same.conf'), 'utf8')).toBe('two\n');
    expect(JSON.parse(kept.out).warnings).toEqual([
      '"/etc/gone.conf" stays deleted; the new one of its package is "/etc/gone.conf.dpkg-dist"',
      '"/etc/one.conf" is kept as it is; the new one of its package is "/etc/one.conf.dpkg-dist"',
    ]);
    expect(lab.mayfly('update', '--json', '--quiet').out).toBe('{\n  "result": "unchanged"\n}\n');
    mirror.add({ name: 'mayfly-one', version: '3', files: files('three\n') });
    update('packages = ["mayfly-one"]\nconffiles = "replace"');
    const replaced = lab.mayfly('update');
    expect(replaced).toMatchObject({ code: 0 });
    expect(replaced.err).toMatch(/"\/etc\/one\.conf" was replaced .*"\/etc\/one\.conf\.dpkg-old"/);
    expect(replaced.err).not.toMatch(/same\.conf/);
    expect(fs.readFileSync(filesOf(stable(lab), '/etc/one.conf'), 'utf8')).toBe('three\n');
  });

  it('what a package does to the running system stays in the copy', () => {
    const postinst = [
      'touch /run/reboot-required',
      'setsid sleep 8600011 &',
      'policy=0; /usr/sbin/policy-rc.d nginx start || policy=$?; echo $policy >/etc/policy',
      'readlink /proc/self/ns/mnt >/etc/namespace; ls /run >/etc/run',
    ];
    mirror.add({ name: 'mayfly-flag', version: '1', postinst: postinst.join('\n') });
    const flag = (): number | undefined =>
      fs.statSync('/run/reboot-required', { throwIfNoEntry: false })?.mtimeMs;
    const before = flag();
    lab = Lab.make({ backend: 'btrfs' });
    update('packages = ["mayfly-flag"]');
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    expect(flag()).toBe(before);
    expect(running()).toEqual([]);
    expect(fs.readFileSync(filesOf(2, '/etc/policy'), 'utf8')).toBe('101\n');
    expect(fs.readFileSync(filesOf(2, '/etc/namespace'), 'utf8')).not.toBe(
      fs.readlinkSync('/proc/self/ns/mnt').concat('\n'),
    );
    expect(fs.readFileSync(filesOf(2, '/etc/run'), 'utf8')).not.toMatch(/dbus|systemd/);
    for (const path of ['/usr/sbin/policy-rc.d', '/run/reboot-required'])
      expect(fs.existsSync(filesOf(2, path))).toBe(false);
  });

  it('finishes a dpkg that was interrupted', () => {
    mirror.add({
      name: 'mayfly-half',
      version: '1',
      files: { '/usr/share/half': 'x' },
      postinst: 'touch /etc/half-done',
    });
    lab = Lab.make({ backend: 'btrfs' });
    const master = `${lab.dir}/pool/master`;
    fs.copyFileSync(`${mirror.directory}/mayfly-half_1_all.deb`, `${master}/root/half.deb`);
    must('chroot', [master, 'dpkg', '--unpack', '/root/half.deb']);
    expect(must('chroot', [master, 'dpkg', '--audit'])).toMatch(/mayfly-half/);
    update('');
    expect(lab.mayfly('update', '--verbose').err).toMatch(
      /repairing packages that are not completely installed/,
    );
    expect(fs.existsSync(filesOf(2, '/etc/half-done'))).toBe(true);
    expect(must('chroot', [master, 'dpkg', '--audit'])).toBe('');
    expect(lab.mayfly('update').err).toMatch(/nothing has changed/);
  });

  it('a policy about services that a refresh brings is kept', () => {
    lab = Lab.make({ backend: 'btrfs' });
    lab.configure('[update]\ncommand = ["sh", "-c", "echo mine >/usr/sbin/policy-rc.d"]');
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    lab.configure('[update]\ncommand = ["touch", "/etc/more"]');
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    expect(fs.readFileSync(filesOf(3, '/usr/sbin/policy-rc.d'), 'utf8')).toBe('mine\n');
  });

  it('a command of the administrator’s own, and then the scripts in refresh.d, in order of name', () => {
    lab = Lab.make({ backend: 'btrfs' });
    fs.mkdirSync(`${lab.dir}/refresh.d`);
    const script = (name: string, text: string, mode = 0o755): void =>
      fs.writeFileSync(`${lab.dir}/refresh.d/${name}`, `#!/bin/sh\n${text}\n`, { mode });
    script('20-second', 'echo second >>"$1/etc/order"; chroot "$1" id -u >>"$1/etc/order"');
    script('10-first', 'echo first >>"$1/etc/order"');
    script('30-off', 'echo never >>"$1/etc/order"', 0o644);
    script('40-old.bak', 'echo never >>"$1/etc/order"');
    lab.configure('[update]\ncommand = ["sh", "-c", "echo command >/etc/order"]');
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    expect(fs.readFileSync(filesOf(2, '/etc/order'), 'utf8')).toBe('command\nfirst\nsecond\n0\n');
    expect(JSON.parse(lab.mayfly('generations', '--json').out)[1]).toMatchObject({
      origin: 'update command',
    });
  });

  it('an optional check that fails is a warning, and the generation is promoted', () => {
    lab = Lab.make({ backend: 'btrfs' });
    fs.mkdirSync(`${lab.dir}/checks.d/optional`, { recursive: true });
    const script = '#!/bin/sh\necho "the printer is not set up" >&2\nexit 3\n';
    fs.writeFileSync(`${lab.dir}/checks.d/optional/printer`, script, { mode: 0o755 });
    const seen = `#!/bin/sh\ntest -d "$1/etc" && test "$3" = 2 && test -e /etc/schroot/chroot.d/mayfly-"$2"* && touch ${lab.dir}/seen\n`;
    fs.writeFileSync(`${lab.dir}/checks.d/session`, seen, { mode: 0o755 });
    lab.configure('[update]\ncommand = ["touch", "/etc/new"]');
    const r = lab.mayfly('update', '--json');
    expect(r).toMatchObject({ code: 0 });
    expect(r.err).toMatch(
      /^mayfly: printer: failed with exit code 3: the printer is not set up \(optional\)$/m,
    );
    expect(JSON.parse(r.out)).toMatchObject({ result: 'promoted', generation: 2 });
    expect(JSON.parse(r.out).warnings).toHaveLength(1);
    expect(fs.existsSync(`${lab.dir}/seen`)).toBe(true);
  });
});
