/** Tables for pure functions: one line of input and expected output per case. */
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
import { refusalText, screenOf } from '../src/session/refusal-dialog.ts';
import { renderEntry } from '../src/session/schroot.ts';
import { inScope, isMember } from '../src/session/scope.ts';
import { redirectUserManager, resetUserManager } from '../src/session/user-manager.ts';
import { parseSize } from '../src/size.ts';
import { pathsOf } from '../src/state/paths.ts';
import type { Login, Session } from '../src/state/sessions.ts';
import { isFromInterruptedInit } from '../src/update/init.ts';
import { World } from './world.ts';

/** Repeats the random cases of an earlier run, which printed it. */
const seed = Number(process.env.MAYFLY_SEED || Math.floor(Math.random() * 2 ** 31));
if (!Number.isInteger(seed) || seed < 0) throw new Error(`MAYFLY_SEED takes a number, not "${seed}"`);
console.log(`MAYFLY_SEED=${seed}`);
fc.configureGlobal({ seed: seed | 0 });

const alice: User = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };
const world = new World();
const config = readConfig(world.host, '/etc/mayfly/mayfly.toml');

describe('user names', () => {
  it.each(['alice', 'a.b-c_d', 'DOM\\alice', 'alice@example.org', 'ålice', 'a'.repeat(256)])(
    'accept %j',
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
  ])('reject %j', name => {
    expect(() => checkUserName(name)).toThrow(/^invalid user name/);
  });
  it('never contain a character that ends a path component or a line', () => {
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
  ])('%j is a session ID: %s', (text, expected) => expect(isSessionId(text)).toBe(expected));
  it('accept only what the equivalent regular expressions accept', () => {
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
  ])('%j has the uid %s', (line, uid) => expect(parsePasswd(line)?.uid).toBe(uid));
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
  it('does not take a group for a user of the same name', () =>
    expect(isMember(['staff'], alice, staff)).toBe(false));
  it.each(['@staff', '*', '@*', '@'])('does not take an account called "%s" for what the list says', name => {
    const user = { ...alice, name };
    expect(isMember(['@staff', '@*', '@', 'root'], user, [])).toBe(false);
    expect(isMember(['@staff'], user, staff)).toBe(true); // if it really is a member
  });
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
  it('adds the user to their groups, but never to groups that grant root', () => {
    const text = 'root:x:0:\naudio:x:29:pulse\nsudo:x:27:\nother:x:104:\n';
    expect(withGroups(text, alice, groups)).toBe(
      'root:x:0:\naudio:x:29:pulse,alice\nsudo:x:27:\nother:x:104:\nalice:x:1001:\nlab:x:2000:alice\n',
    );
  });
  it.each([
    ['the name under another number', 'kmem', 70015, 'kmem:x:15:\ntape:x:26:\n'],
    ['the number under another name', 'students', 15, 'kmem:x:15:\n'],
    ['both, but in two groups', 'kmem', 26, 'kmem:x:15:\ntape:x:26:\n'],
    ['the name twice', 'kmem', 70015, 'kmem:x:15:\nkmem:x:26:\n'],
  ])('makes the user no member of a group if the generation has %s', (_what, name, gid, text) => {
    expect(withGroups(text, alice, [{ name, gid, members: [] }])).toBe(text);
  });
  it('makes the user a member only of the group with the number, if the generation has the name twice', () => {
    expect(withGroups('lab:x:15:\nlab:x:2000:\n', alice, groups.slice(3, 4))).toBe(
      'lab:x:15:\nlab:x:2000:alice\n',
    );
  });
  it('removes the user from groups that only the generation has them in', () => {
    expect(withGroups('sudo:x:27:alice,bob\n', alice, [])).toBe('sudo:x:27:bob\n');
  });
  it.each([
    [true, '#1001 ALL=(ALL:ALL) NOPASSWD: ALL\n'],
    [false, '#1001 ALL=(ALL:ALL) !ALL\n'],
  ])('allows sudo: %s', (allowed, rule) => expect(sudoRule(alice, allowed)).toBe(rule));
});

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
    for (const m of binds) expect(m.options).toMatch(/^(rbind,rslave|bind,slave)$/);
  });
  it('never include all of /run or the private socket of PID 1', () => {
    const sources = planMounts(config, '/r', { path: '/h', ephemeral: false, uid: 1, gid: 1 }).map(
      m => m.source,
    );
    expect(sources).not.toContain('/run');
    expect(sources).not.toContain('/run/systemd');
    expect(sources).not.toContain('/run/systemd/private');
  });
  it('include a home directory outside /home', () =>
    expect(plan('/srv/h/alice', false)).toContain('/srv/h/alice none rbind,rslave'));
  it('give an ephemeral home directory and hide all others', () => {
    const guest = plan('/home/guest', true);
    expect(guest.some(m => m.startsWith('/home/guest tmpfs mode=0700,uid=1001,gid=1001'))).toBe(true);
    expect(guest.some(m => m.startsWith('/home none'))).toBe(false);
  });
  it('do not bind the mount points of sessions into themselves', () => {
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

  describe('mount targets', () => {
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
    it('are checked from the top, each once', () =>
      expect(places(bind('/proc'), bind('/var/tmp'), bind('/var/lib'))).toEqual([
        'dir /r/proc',
        'dir /r/var',
        'dir /r/var/tmp',
        'dir /r/var/lib',
      ]));
    it('below a bind belong to the host and are not checked', () =>
      expect(places(bind('/proc'), bind('/proc/sys/x'))).toEqual(['dir /r/proc']));
    it('are created right before their mount, as files for sockets', () =>
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
      ['exist', [bind('/proc'), bind('/var/tmp'), bind('/file', true)]],
      ['are missing', [bind('/media/usb')]],
      ['are below the session’s own /run', [run, bind('/run/link')]],
      ['are below a bind', [bind('/etc'), bind('/etc/link')]],
    ])('that %s are accepted', (_, mounts) => expect(() => refuse(...mounts)).not.toThrow());
    it.each([
      [bind('/home'), /"\/home" in the generation is a symlink/],
      [bind('/home/x'), /"\/home" in the generation is a symlink/],
      [bind('/file'), /"\/file" in the generation is a file/],
      [bind('/etc', true), /"\/etc" in the generation is a directory; cannot mount "\/etc" on it/],
    ])('%j is refused', (m, message) => expect(() => refuse(m)).toThrow(message));

    describe('seen by the child process that mounts', () => {
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
      ] as const)('a %s at %j gives the exit code %i', (op, name, code) => {
        const { file, args } = mountCommand([{ op, target: `${base}/${name}` }]);
        expect(spawnSync(file, args, { stdio: 'ignore' }).status).toBe(code);
        if (code === 0) expect(lstatSync(`${base}/${name}`).isDirectory()).toBe(op === 'dir');
      });
    });
  });
});

describe('a call of a logout hook', () => {
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
    ['ends the login on its display', [login({})], call, [], 0],
    [
      'for another display (a greeter for switching) ends none',
      [login({})],
      { ...call, display: ':1' },
      [],
      undefined,
    ],
    ['without a login ends none', [], call, [], undefined],
    ['ends the second of two logins', [login({ display: ':1' }), login({})], call, [], 1],
    ['ends none while logind shows it alive (an unlock)', [login({})], call, alive({}), undefined],
    ['ends the login while logind shows another display', [login({})], call, alive({ display: ':7' }), 0],
    ['ends the login while only an ssh login is alive', [login({})], call, alive({ service: 'sshd' }), 0],
    [
      'by gdm ends the login of the same worker',
      [login({ adapter: 'gdm' })],
      { ...call, adapter: 'gdm' as const },
      [],
      0,
    ],
    [
      'by gdm ends none of another worker',
      [login({ adapter: 'gdm' })],
      { ...call, adapter: 'gdm' as const, caller: { pid: 51, start: '1' } },
      [],
      undefined,
    ],
    [
      'by gdm ends none if the PID was reused',
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
      'by gdm’s script ends the login that PAM opened in the same worker',
      [login({ adapter: 'pam' })],
      { ...call, adapter: 'gdm' as const },
      [],
      0,
    ],
    ['PAM’s call for lightdm’s login', [login({})], { ...call, adapter: 'pam' as const }, [], undefined],
    ['by lightdm ends no login of gdm', [login({ adapter: 'gdm' })], call, [], undefined],
  ])('%s', (_what, logins, c, sessions, expected) => {
    expect(endedLogin(logins, c, sessions)).toBe(expected);
  });
  it('reads the session files of logind', () => {
    const text =
      '# This is private data. Do not parse.\nUID=1001\nUSER=alice\nACTIVE=1\nSTATE=active\nSERVICE=lightdm\nCLASS=user\nDISPLAY=":0"\nLEADER=70\nREALTIME=1600000000123456\nMONOTONIC=7200123456\n';
    expect(parseSession('c2', text)).toEqual({
      id: 'c2',
      uid: 1001,
      state: 'active',
      class: 'user',
      service: 'lightdm',
      display: ':0',
      leader: 70,
      began: 7200123,
    });
  });
});

describe('text for other programs', () => {
  const s = {
    id: 'u1001-0a1b2c3d',
    kind: 'login',
    user: alice,
    generation: 3,
    root: '/run/mayfly/roots/u1001-0a1b2c3d',
  } as Session;
  it('lets only the user enter through the schroot entry', () => {
    expect(renderEntry(s, ['admin', '@staff'])).toBe(
      '[u1001-0a1b2c3d]\ntype=plain\ndescription=mayfly session of alice, generation 3\ndirectory=/run/mayfly/roots/u1001-0a1b2c3d\nusers=alice\nroot-users=admin\nroot-groups=staff\n',
    );
  });
  it('keeps a newline in a message from starting another journal field', () => {
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
    ['', '/run/lightdm/root/:0', false], // gdm has no display yet
    [':0', '', false],
    ['host:0', '/run/lightdm/root/:0', false], // another machine's
    [':0', 'relative', false],
    [':0', '/a b', false],
    [':0', '/home/alice/.Xauthority', false], // root would copy what a person has put there
    [':0', '/run/lightdm/root/../../../etc/shadow', false],
  ])('is known from DISPLAY=%j and XAUTHORITY=%j: %s', (DISPLAY, XAUTHORITY, known) => {
    expect(screenOf({ DISPLAY, XAUTHORITY }) !== undefined).toBe(known);
  });
  it('shows the reason and its code', () => {
    const words = refusalText(new MayflyError('full', 'the pool is 95 % used'));
    expect(words).toMatch(/failed: the pool is 95 % used\./);
    expect(words).toMatch(/: MAYFLY-FULL$/);
  });
});

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

describe('a leftover of an interrupted init', () => {
  const first = { unproven: [], last: 1 };
  it.each([
    ['can be a working copy', 'work', 'work', { unproven: [], last: undefined }, true],
    ['can be an incomplete first generation', 'generation', '1', first, true],
    ['can be the first master', 'master', 'master', first, true],
    ['can be a candidate', 'generation', '7', { unproven: [7], last: 9 }, true],
    ['can be the master of an interrupted destroy', 'master', 'master', { unproven: [3], last: 9 }, true],
    ['cannot be a generation that is not on record', 'generation', '3', { unproven: [], last: 3 }, false],
    ['cannot be generation 1 after others', 'generation', '1', { unproven: [], last: 2 }, false],
    [
      'cannot be the generation of another installation',
      'generation',
      '1',
      { unproven: [], last: undefined },
      false,
    ],
    [
      'cannot be the master of another installation',
      'master',
      'master',
      { unproven: [], last: undefined },
      false,
    ],
    ['cannot be a session', 'session', 'u1-00000001', first, false],
  ] as const)('%s', (_, role, name, known, is) =>
    expect(isFromInterruptedInit({ role, name }, known)).toBe(is),
  );
});
