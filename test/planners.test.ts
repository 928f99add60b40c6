/** Tables over the pure parts: what goes in, what comes out, a line each. */
import { spawnSync } from 'node:child_process';
import { lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { readConfig } from '../src/config/parse.ts';
import { MayflyError } from '../src/errors.ts';
import { checkUserName, groupsAreLocal, parsePasswd, type User } from '../src/linux/accounts.ts';
import type { Host } from '../src/linux/host.ts';
import { journalEntry } from '../src/linux/log.ts';
import { parseSession } from '../src/linux/logind.ts';
import { makeMountOps, mountCommand } from '../src/linux/mount-program.ts';
import { planMountOps, requireMountTargets } from '../src/linux/mounts.ts';
import { isNumber, isSessionId } from '../src/names.ts';
import { endedLogin } from '../src/session/hook-call.ts';
import { sudoRule, withEntry, withGroups } from '../src/session/identity.ts';
import { planMounts } from '../src/session/mount-plan.ts';
import { screenOf, wordsFor } from '../src/session/refusal-dialog.ts';
import { renderEntry } from '../src/session/schroot.ts';
import { inScope, isMember } from '../src/session/scope.ts';
import { redirectUserManager, resetUserManager } from '../src/session/user-manager.ts';
import { parseSize } from '../src/size.ts';
import { pathsOf } from '../src/state/paths.ts';
import type { Login, Session } from '../src/state/sessions.ts';
import { isFromInterruptedInit } from '../src/update/init.ts';
import { World } from './world.ts';

const alice: User = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };
const world = new World();
const config = readConfig(world.host, '/etc/mayfly/mayfly.toml');

describe('user names', () => {
  it.each(['alice', 'a.b-c_d', 'DOM\\alice', 'alice@example.org', 'ålice', 'a'.repeat(256)])(
    'takes %j',
    name => {
      expect(() => checkUserName(name)).not.toThrow();
    },
  );
  it.each([
    '',
    '-rf',
    '..',
    '.',
    'a/b',
    '../etc',
    'a b',
    'a\nb',
    'a:b',
    'a,b',
    'a\0b',
    'x'.repeat(300),
    '[a]',
  ])('refuses %j', name => {
    expect(() => checkUserName(name)).toThrow(/is not a user name/);
  });
  it('lets no name through that could leave a path component or a line', () => {
    fc.assert(
      fc.property(fc.string(), name => {
        try {
          checkUserName(name);
        } catch {
          return true;
        }
        return !/[/\s:,\0]/.test(name) && name !== '..' && !name.startsWith('-') && name !== '';
      }),
    );
  });
});

describe('ids and numbers', () => {
  it.each([
    ['u1001-0a1b2c3d', true],
    ['u0-00000000', true],
    ['u1001-0a1b2c3', false],
    ['u1001-0A1B2C3D', false],
    ['u-0a1b2c3d', false],
    ['u01-0a1b2c3d', false],
    ['u12345678901-0a1b2c3d', false],
    ['x1001-0a1b2c3d', false],
    ['u1001_0a1b2c3d', false],
    ['../u1-0a1b2c3d', false],
    ['', false],
  ])('%j is the id of a session: %s', (text, expected) => expect(isSessionId(text)).toBe(expected));
  it('take nothing that their regular expressions would not', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[u0-9a-f-]{0,24}$/)), text => {
        expect(isSessionId(text)).toBe(/^u(0|[1-9]\d{0,9})-[0-9a-f]{8}$/.test(text));
        expect(isNumber(text, 9)).toBe(/^(0|[1-9]\d{0,8})$/.test(text));
      }),
    );
  });
});

describe('passwd lines', () => {
  it.each([
    ['alice:x:1001:1001:Alice,,,:/home/alice:/bin/bash', 1001],
    ['alice:x:x:1001::/home/alice:/bin/bash', undefined],
    ['alice:x:-1:1001::/home/alice:/bin/bash', undefined],
    ['alice', undefined],
    ['', undefined],
  ])('%j is uid %s', (line, uid) => expect(parsePasswd(line)?.uid).toBe(uid));
});

describe('scope', () => {
  const staff = [{ name: 'staff', gid: 50, members: ['alice'] }];
  it.each([
    [{ include: ['*'], exclude: ['root'] }, 1001, [], true],
    [{ include: ['*'], exclude: ['alice'] }, 1001, [], false],
    [{ include: ['*'], exclude: ['@staff'] }, 1001, staff, false],
    [{ include: ['@staff'], exclude: [] }, 1001, staff, true],
    [{ include: ['@staff'], exclude: [] }, 1001, [], false],
    [{ include: ['*'], exclude: [] }, 999, [], false],
    [{ include: ['*'], exclude: [] }, 65534, [], false],
  ])('%j, uid %s, groups %j: %s', (lists, uid, groups, expected) => {
    expect(inScope({ ...config, ...lists }, { ...alice, uid }, groups)).toBe(expected);
  });
  it('a group is not a user of the same name', () => expect(isMember(['staff'], alice, staff)).toBe(false));
  it.each([
    ['group: files', true],
    ['group: files systemd', true],
    ['group: files [SUCCESS=merge] systemd', true],
    ['group: files sss', false],
    ['group: ldap', false],
    [undefined, true],
  ])('%j has local groups only: %s', (text, expected) => expect(groupsAreLocal(text)).toBe(expected));
});

describe('identity', () => {
  it.each([
    ['root:x:0:0::/:/bin/sh\n', 'root:x:0:0::/:/bin/sh\nalice:x:1001:1001:::\n'],
    ['alice:x:5:5:::\n', 'alice:x:1001:1001:::\n'],
    ['student:x:1001:1001:::\n', 'alice:x:1001:1001:::\n'],
    ['student:x:1002:1001:::', 'student:x:1002:1001:::\nalice:x:1001:1001:::\n'],
  ])('passwd %j becomes %j', (text, expected) =>
    expect(withEntry(text, 'alice:x:1001:1001:::', 2)).toBe(expected),
  );

  const groups = [
    { name: 'alice', gid: 1001, members: [] },
    { name: 'audio', gid: 29, members: ['alice'] },
    { name: 'sudo', gid: 27, members: ['alice'] },
    { name: 'lab', gid: 2000, members: ['alice'] },
    { name: 'render', gid: 104, members: ['alice'] },
  ];
  it('adds the user to the groups they have, by name, and never to those that make root', () => {
    const text = 'root:x:0:\naudio:x:29:pulse\nsudo:x:27:\nother:x:104:\n';
    expect(withGroups(text, alice, groups)).toBe(
      'root:x:0:\naudio:x:29:pulse,alice\nsudo:x:27:\nother:x:104:\nalice:x:1001:\nlab:x:2000:alice\n',
    );
  });
  it('takes the user out of a group the generation put them in', () => {
    expect(withGroups('sudo:x:27:alice,bob\n', alice, [])).toBe('sudo:x:27:bob\n');
  });
  it.each([
    [true, '#1001 ALL=(ALL:ALL) NOPASSWD: ALL\n'],
    [false, '#1001 ALL=(ALL:ALL) !ALL\n'],
  ])('sudo %s', (allowed, rule) => expect(sudoRule(alice, allowed)).toBe(rule));
});

describe('mounts', () => {
  const plan = (home: string, ephemeral: boolean, root = '/run/mayfly/roots/x') =>
    planMounts(config, root, { path: home, ephemeral, uid: 1001, gid: 1001 }).map(
      m => `${m.target.slice(root.length)} ${m.type} ${m.options}`,
    );

  it('binds the host with rslave, always', () => {
    const binds = planMounts(config, '/r', { path: '/home/a', ephemeral: false, uid: 1, gid: 1 }).filter(
      m => m.type === 'none',
    );
    expect(binds.length).toBeGreaterThan(10);
    for (const m of binds) expect(m.options).toMatch(/^(rbind,rslave|bind,slave)$/);
  });
  it('never binds /run whole, nor the private socket of PID 1', () => {
    const sources = planMounts(config, '/r', { path: '/h', ephemeral: false, uid: 1, gid: 1 }).map(
      m => m.source,
    );
    expect(sources).not.toContain('/run');
    expect(sources).not.toContain('/run/systemd');
    expect(sources).not.toContain('/run/systemd/private');
  });
  it('binds a home that lies elsewhere', () =>
    expect(plan('/srv/h/alice', false)).toContain('/srv/h/alice none rbind,rslave'));
  it('gives a guest an empty home and shows nobody else’s', () => {
    const guest = plan('/home/guest', true);
    expect(guest.some(m => m.startsWith('/home/guest tmpfs mode=0700,uid=1001,gid=1001'))).toBe(true);
    expect(guest.some(m => m.startsWith('/home none'))).toBe(false);
  });
  it('does not bind its own mount points into themselves', () => {
    expect(plan('/home/a', false, '/home/sandbox/roots/x')).toContain('/home none bind,slave');
  });
  it.each([
    ['bind,slave', 'none', [4096, ''], 1 << 19],
    ['rbind,rslave', 'none', [4096 | 16384, ''], (1 << 19) | 16384],
    ['mode=0755,nosuid,nodev,size=20%', 'tmpfs', [2 | 4, 'mode=0755,size=20%'], 1 << 18],
    [
      'lowerdir=/a,upperdir=/b,workdir=/c,volatile',
      'overlay',
      [0, 'lowerdir=/a,upperdir=/b,workdir=/c,volatile'],
      1 << 18,
    ],
  ] as const)('%s on %s', (options, type, [flags, data], propagation) => {
    const mount = { op: 'mount', source: '/s', target: '/t', type, flags, data, propagation };
    const callFor = makeMountOps();
    for (let n = 0; n < 2; n++) expect(callFor({ source: '/s', target: '/t', type, options })).toEqual(mount);
  });

  describe('places', () => {
    const w = new World();
    for (const path of ['/base/proc', '/base/run', '/base/var/tmp', '/base/etc']) w.makeDirs(path);
    w.put('/base/file', '');
    for (const path of ['/base/home', '/base/run/link', '/base/etc/link']) w.host.symlink('/etc', path);
    const root = { source: 'o', target: '/r', type: 'overlay', options: 'x' };
    const bind = (source: string, file = false) => ({
      source,
      target: `/r${source}`,
      type: 'none',
      options: 'bind,slave',
      ...(file ? { file } : {}),
    });
    const run = { source: 'm', target: '/r/run', type: 'tmpfs', options: 'mode=0755' };
    const places = (...mounts: Parameters<typeof planMountOps>[1]) =>
      planMountOps(root, mounts)
        .filter(c => c.op !== 'mount')
        .map(c => `${c.op} ${c.target}`);
    it('are looked at from the top, each once', () =>
      expect(places(bind('/proc'), bind('/var/tmp'), bind('/var/lib'))).toEqual([
        'dir /r/proc',
        'dir /r/var',
        'dir /r/var/tmp',
        'dir /r/var/lib',
      ]));
    it('below a bind are the host’s', () =>
      expect(places(bind('/proc'), bind('/proc/sys/x'))).toEqual(['dir /r/proc']));
    it('are right before their mount, sockets as files', () =>
      expect(planMountOps(root, [run, bind('/run/notify', true)]).map(c => `${c.op} ${c.target}`)).toEqual([
        'mount /r',
        'dir /r/run',
        'mount /r/run',
        'file /r/run/notify',
        'mount /r/run/notify',
      ]));
    const refuse = (...mounts: Parameters<typeof planMountOps>[1]) =>
      requireMountTargets(w.host, '/base', planMountOps(root, mounts));
    it.each([
      ['are there', [bind('/proc'), bind('/var/tmp'), bind('/file', true)]],
      ['are missing', [bind('/media/usb')]],
      ['are below our own /run', [run, bind('/run/link')]],
      ['are below a bind', [bind('/etc'), bind('/etc/link')]],
    ])('that %s are not refused', (_, mounts) => expect(() => refuse(...mounts)).not.toThrow());
    it.each([
      [bind('/home'), /"\/home" in the generation is a symlink/],
      [bind('/home/x'), /"\/home" in the generation is a symlink/],
      [bind('/file'), /"\/file" in the generation is a file/],
      [bind('/etc', true), /"\/etc" in the generation is a dir, so "\/etc" can not be mounted on it/],
    ])('%j is refused', (m, message) => expect(() => refuse(m)).toThrow(message));

    describe('for the child that mounts', () => {
      const base = mkdtempSync(`${tmpdir()}/mayfly-places-`);
      mkdirSync(`${base}/directory`);
      writeFileSync(`${base}/file`, '');
      symlinkSync('directory', `${base}/link`);
      symlinkSync('nowhere', `${base}/dangling`);
      afterAll(() => rmSync(base, { recursive: true }));
      it.each([
        ['dir', 'directory', 0],
        ['dir', 'new', 0],
        ['dir', 'new/below', 0],
        ['dir', 'link', 32],
        ['dir', 'dangling', 32],
        ['dir', 'file', 32],
        ['file', 'file', 0],
        ['file', 'fresh', 0],
        ['file', 'link', 32],
        ['file', 'directory', 32],
      ] as const)('a %s at %j: %i', (op, name, code) => {
        const { file, args } = mountCommand([{ op, target: `${base}/${name}` }]);
        expect(spawnSync(file, args, { stdio: 'ignore' }).status).toBe(code);
        if (code === 0) expect(lstatSync(`${base}/${name}`).isDirectory()).toBe(op === 'dir');
      });
    });
  });
});

describe('logout or not', () => {
  const login = (o: Partial<Login>): Login => ({
    adapter: 'lightdm',
    display: ':0',
    caller: { pid: 50, start: '1' },
    since: 0,
    ...o,
  });
  const call = { adapter: 'lightdm' as const, display: ':0', caller: { pid: 50, start: '1' } };
  const alive = (o: object) => [
    {
      ...{ id: '1', uid: 1001, state: 'active', class: 'user', service: 'lightdm', display: ':0' },
      ...{ leader: 70, began: 0 },
      ...o,
    },
  ];
  it.each([
    ['the display of the login', [login({})], call, [], 0],
    ['another display (a greeter for switching)', [login({})], { ...call, display: ':1' }, [], undefined],
    ['nobody logged in', [], call, [], undefined],
    ['the second of two', [login({ display: ':1' }), login({})], call, [], 1],
    ['logind shows it alive (an unlock)', [login({})], call, alive({}), undefined],
    ['logind shows another display alive', [login({})], call, alive({ display: ':7' }), 0],
    ['only an ssh login is alive', [login({})], call, alive({ service: 'sshd' }), 0],
    ['gdm, its own worker', [login({ adapter: 'gdm' })], { ...call, adapter: 'gdm' as const }, [], 0],
    [
      'gdm, another worker',
      [login({ adapter: 'gdm' })],
      { ...call, adapter: 'gdm' as const, caller: { pid: 51, start: '1' } },
      [],
      undefined,
    ],
    [
      'gdm, a reused pid',
      [login({ adapter: 'gdm' })],
      { ...call, adapter: 'gdm' as const, caller: { pid: 50, start: '9' } },
      [],
      undefined,
    ],
    [
      'PAM closes what it opened, whatever logind still shows',
      [login({ adapter: 'pam' })],
      { ...call, adapter: 'pam' as const },
      alive({ service: 'greetd', display: '' }),
      0,
    ],
    [
      'gdm’s script in the worker that PAM opened',
      [login({ adapter: 'pam' })],
      { ...call, adapter: 'gdm' as const },
      [],
      0,
    ],
    ['PAM’s call for lightdm’s login', [login({})], { ...call, adapter: 'pam' as const }, [], undefined],
    ['lightdm’s call for a gdm login', [login({ adapter: 'gdm' })], call, [], undefined],
  ])('%s', (_what, logins, c, sessions, expected) => {
    expect(endedLogin(logins, c, sessions)).toBe(expected);
  });
  it('reads what logind writes', () => {
    const text =
      '# This is private data. Do not parse.\nUID=1001\nUSER=alice\nACTIVE=1\nSTATE=active\nSERVICE=lightdm\nCLASS=user\nDISPLAY=":0"\nLEADER=70\nREALTIME=1600000000123456\n';
    expect(parseSession('c2', text)).toEqual({
      id: 'c2',
      uid: 1001,
      state: 'active',
      class: 'user',
      service: 'lightdm',
      display: ':0',
      leader: 70,
      began: 1600000000123,
    });
  });
});

describe('what others read', () => {
  const s = {
    id: 'u1001-0a1b2c3d',
    kind: 'login',
    user: alice,
    generation: 3,
    root: '/run/mayfly/roots/u1001-0a1b2c3d',
  } as Session;
  it('a schroot entry lets in exactly the user', () => {
    expect(renderEntry(s, ['admin', '@staff'])).toBe(
      '[u1001-0a1b2c3d]\ntype=plain\ndescription=mayfly session of alice, generation 3\ndirectory=/run/mayfly/roots/u1001-0a1b2c3d\nusers=alice\nroot-users=admin\nroot-groups=staff\n',
    );
  });
  it('a newline in a message does not make another journal field', () => {
    expect(journalEntry('err', 'a\nPRIORITY=0', { user: 'x\ny' })).toBe(
      'MESSAGE=a PRIORITY=0\nPRIORITY=3\nSYSLOG_IDENTIFIER=mayfly\nMAYFLY_USER=x y\n',
    );
  });
});

describe('sizes', () => {
  it.each([
    ['4096', 4096],
    ['1K', 1024],
    ['1.5G', 1610612736],
    ['x', Number.NaN],
  ])('%s is %d bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));
});

describe('the screen of a refused login', () => {
  it.each([
    [':0', '/var/run/lightdm/root/:0', true],
    [':0.1', '/run/lightdm/root/:0', true],
    ['', '/run/lightdm/root/:0', false], // gdm has none yet
    [':0', '', false],
    ['host:0', '/run/lightdm/root/:0', false], // somebody else's
    [':0', 'relative', false],
    [':0', '/a b', false],
  ])('%j with %j: %s', (DISPLAY, XAUTHORITY, known) => {
    expect(screenOf({ DISPLAY, XAUTHORITY }) !== undefined).toBe(known);
  });
  it('shows the reason and its code', () => {
    const words = wordsFor(new MayflyError('full', 'the pool is 95 % used'));
    expect(words).toMatch(/now: the pool is 95 % used\./);
    expect(words).toMatch(/: MAYFLY-FULL$/);
  });
});

describe('a service manager that is there at a login', () => {
  it.each([
    [
      'of a login that is over: begun anew',
      '# logind\nNAME=alice\nSTATE=closing\n',
      ['restart user@1001.service'],
    ],
    ['of another login', '# logind\nNAME=alice\nSTATE=active\n', []],
    ['that is to stay for good', '# logind\nNAME=alice\nSTATE=lingering\n', []],
    ['of nobody', undefined, []],
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
    resetUserManager(host, pathsOf(config.directories), 1001, '/run/mayfly/roots/u1001-99999999'); // an older session's end
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/run/mayfly/roots/u1001-0a1b2c3d');
    w.makeDirs('/run/user/1001');
    resetUserManager(host, pathsOf(config.directories), 1001);
    expect(w.host.readlink('/run/mayfly/users/1001/root')).toBe('/');
  });
});

describe('what a try of init left', () => {
  const first = { unproven: [], last: 1 };
  it.each([
    ['a working copy', 'work', 'work', { unproven: [], last: undefined }, true],
    ['the first generation, half-made', 'generation', '1', first, true],
    ['the first master', 'master', 'master', first, true],
    ['a candidate', 'generation', '7', { unproven: [7], last: 9 }, true],
    ['master, of what is being destroyed', 'master', 'master', { unproven: [3], last: 9 }, true],
    ['a generation of which nothing is on record', 'generation', '3', { unproven: [], last: 3 }, false],
    ['the first, after others', 'generation', '1', { unproven: [], last: 2 }, false],
    ['another installation’s generation', 'generation', '1', { unproven: [], last: undefined }, false],
    ['another installation’s master', 'master', 'master', { unproven: [], last: undefined }, false],
    ['a session', 'session', 'u1-00000001', first, false],
  ] as const)('%s', (_, role, name, known, is) =>
    expect(isFromInterruptedInit({ role, name }, known)).toBe(is),
  );
});
