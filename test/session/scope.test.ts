/** Who gets a session. */
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../src/config/parse.ts';
import type { User } from '../../src/linux/accounts.ts';
import { inScope, isMember } from '../../src/session/scope.ts';
import { World } from '../world.ts';

const alice: User = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };
const config = readConfig(new World().host, '/etc/mayfly/mayfly.toml');

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
});
