/** What schroot is told about a session. */
import { describe, expect, it } from 'vitest';
import type { User } from '../../src/linux/accounts.ts';
import { renderEntry } from '../../src/session/schroot.ts';
import type { Session } from '../../src/state/sessions.ts';

const alice: User = { name: 'alice', uid: 1001, gid: 1001, gecos: '', home: '/home/alice', shell: '/bin/sh' };

describe('the schroot entry of a session', () => {
  const s = {
    id: 'u1001-0a1b2c3d',
    kind: 'login',
    user: alice,
    generation: 3,
    root: '/run/mayfly/roots/u1001-0a1b2c3d',
  } as Session;
  it('lets only the user enter', () => {
    expect(renderEntry(s, ['admin', '@staff'])).toBe(
      '[u1001-0a1b2c3d]\ntype=plain\ndescription=mayfly session of alice, generation 3\ndirectory=/run/mayfly/roots/u1001-0a1b2c3d\nusers=alice\nroot-users=admin\nroot-groups=staff\n',
    );
  });
});
