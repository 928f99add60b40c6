/** Names that nobody would choose: they come from greeters, account directories and records, and lead root to files. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import { MayflyError } from '../../src/errors.ts';
import { checkUserName, lookupUser, parseGroups, parsePasswd, type User } from '../../src/linux/accounts.ts';
import type { Host } from '../../src/linux/host.ts';
import { isSessionId, newSessionId, uidOfSession } from '../../src/names.ts';
import { checkHome } from '../../src/session/home-path.ts';
import { callOf } from '../../src/session/hook-call.ts';
import { withEntry, withGroups } from '../../src/session/identity.ts';
import { screenOf } from '../../src/session/refusal-dialog.ts';
import { renderEntry } from '../../src/session/schroot.ts';
import { pathsOf } from '../../src/state/paths.ts';
import type { Session } from '../../src/state/sessions.ts';
import { isVolumeName, type Role, type Volume } from '../../src/volume/backend.ts';
import { asidePath, sparePath, volumePath } from '../../src/volume/directory-layout.ts';
import { lvNameOf, parsePoolPath, roleIn, tagOf } from '../../src/volume/lvm/names.ts';
import { cases } from '../campaign.ts';
import { World } from '../world.ts';

/** Characters that mean something to a shell, a file, a terminal or an account database. */
const unit = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...'abz019_.-u@+') },
  { weight: 3, arbitrary: fc.constantFrom(...'/:,;|*?$`\'"\\ ~#%[]{}()=!&<>') },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 0xa0 }).map(n => String.fromCharCode(n)) },
  { weight: 1, arbitrary: fc.constantFrom('\u2028', '\u202e', '\ufeff', 'ä', '猫', '🐈', '\ud800') },
);
const nasty = fc.oneof(
  fc.string({ unit, maxLength: 40 }),
  fc.constantFrom('', '.', '..', '../../etc/passwd', 'x'.repeat(257), 'root', '-rf', '+', '0', '1001'),
);
/** Like real ones, with at most a little that is wrong. */
const sessionId = fc
  .tuple(fc.nat(), fc.stringMatching(/^[0-9a-f]{8}$/))
  .map(([uid, random]) => newSessionId(uid, random));
const nearly = (good: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.tuple(good, fc.nat(), unit, fc.boolean()).map(([text, at, c, insert]) => {
    const i = at % (text.length + 1);
    return text.slice(0, i) + c + text.slice(insert ? i : i + 1);
  });

const CONTROL = /\p{Cc}/u;
const isClean = (name: string): boolean =>
  name !== '' && name !== '.' && name !== '..' && !name.includes('/') && !CONTROL.test(name);

/** What `act` throws must be an error with one of these codes. Returns whether it threw. */
async function refuses(codes: readonly string[], act: () => unknown): Promise<boolean> {
  try {
    await act();
    return false;
  } catch (error) {
    if (!(error instanceof MayflyError)) throw error;
    expect(codes).toContain(error.code);
    return true;
  }
}

const world = new World();
const config = readConfig(world.host, '/etc/mayfly/mayfly.toml');
const on = { host: world.host, config, paths: pathsOf(config.directories) };

/** A host whose account directory answers this. */
const answering = (stdout: string): Host => ({
  ...world.host,
  run: async () => ({ code: 0, stdout, stderr: '' }),
});

const alice: User = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };

describe('users', () => {
  it('have names that are one part of a path and of a line, or are refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(nasty, nearly(fc.constantFrom('alice', 'a.b-c', 'DOM\\eve'))), async name => {
        if (await refuses(['bad-user'], () => checkUserName(name))) return;
        expect(isClean(name) && !/[:,[\]]|[^\S ]|^[-+ ]| $/.test(name), JSON.stringify(name)).toBe(true);
      }),
      cases('names of users'),
    );
  });

  it('are refused whatever a directory answers, or have a clean name and a home directory of their own', async () => {
    const line = fc.oneof(
      fc.tuple(nasty, nasty, nasty, nasty, nasty, nasty, nasty).map(all => all.join(':')),
      nearly(fc.constant('eve:x:1003:1003:Eve:/home/eve:/bin/sh')),
      fc.tuple(nasty, nasty).map(([name, home]) => `${name}:x:1003:1003::/home/${home}:/bin/sh`),
    );
    await fc.assert(
      fc.asyncProperty(line, nasty, async (answer, name) => {
        let user: User | undefined;
        const looked = await refuses(['bad-user', 'unknown-user'], async () => {
          user = await lookupUser(answering(`${answer}\n`), name);
        });
        if (looked || !user) return;
        const { name: own, uid, gid, home } = user;
        expect(isClean(own), JSON.stringify(own)).toBe(true);
        expect(Number.isSafeInteger(uid) && uid >= 0 && Number.isSafeInteger(gid) && gid >= 0).toBe(true);
        const on1 = { ...on, host: answering('') };
        if (await refuses(['unsafe'], () => checkHome(on1, user ?? alice, []))) return;
        expect(home.startsWith('/') && home.slice(1).split('/').every(isClean), JSON.stringify(home)).toBe(
          true,
        );
      }),
      cases('answers of account directories'),
    );
  });

  it('keep their line in passwd(5) as it is read', () => {
    const field = fc.string({ unit }).map(text => text.replace(/[:\n]/g, ''));
    const number = fc.nat({ max: 4_294_967_294 });
    fc.assert(
      fc.property(field, number, number, field, field, (name, uid, gid, gecos, shell) => {
        const line = `${name}:x:${uid}:${gid}:${gecos}:/home/x:${shell}`;
        const user = parsePasswd(line);
        expect(user).toEqual(name === '' ? undefined : { name, uid, gid, gecos, home: '/home/x', shell });
        // Others keep theirs, and the new one is the only one of this name and number.
        const text = withEntry('other:x:4294967295:1::/:/bin/sh\n', line, 2);
        expect(text.split('\n')).toEqual([...new Set(['other:x:4294967295:1::/:/bin/sh', line, ''])]);
      }),
      cases('lines of passwd'),
    );
  });
});

describe('groups', () => {
  const line = fc.oneof(
    fc.tuple(nasty, nasty, nasty, nasty).map(all => all.join(':')),
    fc.tuple(nasty, fc.nat(), nasty).map(([name, gid, members]) => `${name}:x:${gid}:${members}`),
    nearly(fc.constant('lab:x:2000:alice,bob')),
  );
  it.each(['a/b', 'a\u001bb', 'a\u0085b', 'a\0'])('called %j do not count', name => {
    expect(parseGroups(`${name}:x:2000:alice\nlab users:x:2001:`).map(g => g.gid)).toEqual([2001]);
  });
  it('have names that are one part of a path and of a line, or do not count', () => {
    fc.assert(
      fc.property(fc.array(line, { maxLength: 4 }), lines => {
        const groups = parseGroups(lines.join('\n'));
        for (const { name, gid } of groups) {
          expect(/^[^/:]+$/.test(name) && !CONTROL.test(name), JSON.stringify(name)).toBe(true);
          expect(Number.isSafeInteger(gid) && gid >= 0).toBe(true);
        }
        // In a session they are lines as they were; nobody else's membership changes.
        const before = 'root:x:0:\nstaff:x:50:carol\n';
        const after = parseGroups(withGroups(before, alice, groups));
        expect(after.find(g => g.name === 'root')?.members).toEqual([]);
        expect(after.filter(g => g.gid === 0).map(g => g.name)).toEqual(['root']);
        expect(after.find(g => g.name === 'staff')?.members).toContain('carol');
        expect(after.flatMap(g => g.members).filter(m => m !== 'alice' && m !== 'carol')).toEqual([]);
      }),
      cases('groups'),
    );
  });
});

describe('displays', () => {
  it('of a login are words without a path, or are left out', () => {
    const env = fc.record({ USER: nasty, DISPLAY: fc.oneof(nasty, nearly(fc.constant(':10.0'))) });
    fc.assert(
      fc.property(env, ({ USER, DISPLAY }) => {
        const call = callOf(world.host, 'lightdm', { USER, DISPLAY }, 50);
        expect(call?.user ?? '').toBe(USER);
        if (call?.display !== undefined) expect(call.display).toMatch(/^[\w.:-]{1,64}$/);
      }),
      cases('displays of logins'),
    );
  });

  it('of a message are local ones, with a cookie in the directory of lightdm', () => {
    const display = fc.oneof(nasty, nearly(fc.constant(':0')));
    const cookie = fc.oneof(nasty, nearly(fc.constant('/run/lightdm/root/:0')));
    fc.assert(
      fc.property(display, cookie, (DISPLAY, XAUTHORITY) => {
        const screen = screenOf({ DISPLAY, XAUTHORITY });
        if (screen === undefined) return;
        expect(DISPLAY).toMatch(/^:[\d.]{1,8}$/);
        expect(XAUTHORITY.replace(/^\/var/, '')).toMatch(/^\/run\/lightdm\/root\/:\d{1,5}$/);
        expect(CONTROL.test(DISPLAY + XAUTHORITY)).toBe(false);
      }),
      cases('displays of messages'),
    );
  });
});

describe('sessions', () => {
  it('have IDs that are read as they were made', () => {
    fc.assert(
      fc.property(fc.nat({ max: 4_294_967_294 }), fc.stringMatching(/^[0-9a-f]{8}$/), (uid, random) => {
        const id = newSessionId(uid, random);
        expect([isSessionId(id), uidOfSession(id)]).toEqual([true, uid]);
      }),
      cases('IDs of sessions'),
    );
  });

  it('have no other IDs', () => {
    fc.assert(
      fc.property(fc.oneof(nasty, nearly(sessionId)), text => {
        expect(isSessionId(text)).toBe(/^u(0|[1-9]\d{0,9})-[0-9a-f]{8}$/.test(text));
      }),
      cases('texts that are no IDs'),
    );
  });

  it('have an entry in schroot with one line for each key, whatever their user is called', async () => {
    const members = fc.array(fc.oneof(nasty, nearly(fc.constant('@staff'))), { maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(nasty, members, sessionId, async (name, rootUsers, id) => {
        if (await refuses(['bad-user'], () => checkUserName(name))) return;
        const toml = `root_users = ${JSON.stringify(rootUsers)}\n`;
        world.makeDirs('/etc/mayfly');
        world.put('/etc/mayfly/mayfly.toml', toml);
        const refused = await refuses(['config'], () => readConfig(world.host, '/etc/mayfly/mayfly.toml'));
        const s = {
          id,
          kind: 'login',
          user: { ...alice, name },
          generation: 1,
          root: `/run/mayfly/roots/${id}`,
        };
        const text = renderEntry(s as Session, refused ? [] : rootUsers);
        const keys = text.split(/[\n\r]/).map(line => line.replace(/=.*/u, ''));
        const expected = ['type', 'description', 'directory', 'users', 'root-users', 'root-groups', ''];
        expect(keys).toEqual([`[${id}]`, ...expected]);
        expect(text).toContain(`\nusers=${name}\n`);
      }),
      cases('entries of schroot'),
    );
  });
});

describe('volumes', () => {
  const roles = fc.constantFrom<Role>('master', 'work', 'generation', 'session');
  const names = fc.oneof(nasty, sessionId, nearly(sessionId), fc.nat().map(String), fc.constant('master'));

  it('lie directly in their directory of the pool, or are refused', async () => {
    const inside = /^\/pool(\/generations|\/sessions)?\/[^/]+$/;
    await fc.assert(
      fc.asyncProperty(roles, names, async (role, name) => {
        const v: Volume = { backend: 'overlay', pool: '/pool', role, name };
        const refused = await refuses(['unsafe'], () => volumePath(v));
        expect(refused).toBe(!isVolumeName(role, name));
        for (const path of [() => volumePath(v), () => asidePath(v, 'old'), () => asidePath(v, 'new')]) {
          if (await refuses(['unsafe'], path)) expect(refused).toBe(true);
          else expect(path()).toMatch(inside);
        }
        if (!(await refuses(['unsafe'], () => sparePath(v)))) expect(sparePath(v)).toMatch(inside);
        if (!refused) expect(isClean(name)).toBe(true);
      }),
      cases('names of volumes'),
    );
  });

  it('on LVM have a tag that is read as it was made, and a pool path that is', async () => {
    const pool = fc.oneof(
      nasty,
      fc.tuple(nasty, nasty).map(([group, name]) => `/dev/${group}/${name}`),
      nearly(fc.constant('/dev/vg-0/mayfly')),
      fc.constant('/dev/vg/mayfly'),
    );
    await fc.assert(
      fc.asyncProperty(pool, roles, names, fc.boolean(), async (path, role, name, unfinished) => {
        const v: Volume = { backend: 'lvm', pool: path, role, name };
        if (await refuses(['corrupt', 'unsafe'], () => tagOf(v, unfinished))) return;
        const { group, name: own } = parsePoolPath(path);
        expect(`/dev/${group}/${own}`).toBe(path);
        for (const part of [group, own]) expect(isClean(part) && /^[\w+][\w+.-]*$/.test(part)).toBe(true);
        const tag = tagOf(v, unfinished);
        expect(tag).toMatch(/^[\w+.:-]+$/); // what LVM allows in a tag, without the rest
        const row = { tags: [tag, 'theirs'] } as unknown as Parameters<typeof roleIn>[2];
        expect(roleIn(path, 'lvm', row)).toEqual({ volume: v, unfinished });
        expect(lvNameOf(v, () => 'x1')).toMatch(/^[\w+.-]+$/);
      }),
      cases('names on LVM'),
    );
  });
});
