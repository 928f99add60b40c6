/** The logins refused since the last one that succeeded, and what monitoring says of them. */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { LOOKUP_LIMIT, writeLoginOutcome } from '../../src/session/outcome.ts';
import { recordRefusal } from '../../src/session/refused-login.ts';
import { noteRefusedLogin, readRefusedLogins } from '../../src/state/refused-logins.ts';
import { describeRefused, type HealthFacts, healthIssues, healthLine } from '../../src/update/health.ts';
import { preparedWorld, World } from '../world.ts';

const facts: HealthFacts = {
  ...{ stable: 2, usable: true, history: undefined, sealed: 0, sessions: 0, stuck: 0, pool: undefined },
  ...{ demoted: [], limits: { warn: 85, full: 95 } },
};

describe('refused logins', () => {
  it('are counted with the last code of each person', () => {
    const w = new World();
    const { host, paths } = w.machine();
    w.makeDirs(paths.run);
    expect(readRefusedLogins(host, paths)).toBeUndefined();
    noteRefusedLogin(host, paths, 1001, 'MAYFLY-FULL');
    noteRefusedLogin(host, paths, 1001, 'MAYFLY-HOME');
    noteRefusedLogin(host, paths, 1002, 'MAYFLY-FULL');
    expect(readRefusedLogins(host, paths)).toMatchObject({
      ...{ count: 3, people: { 1001: 'MAYFLY-HOME', 1002: 'MAYFLY-FULL' } },
    });
  });

  it('are forgotten with the next that succeeds, and not with one of somebody out of scope', async () => {
    const w = preparedWorld();
    const { host, paths } = w.machine();
    noteRefusedLogin(host, paths, 1002, 'MAYFLY-FULL');
    await writeLoginOutcome(host, paths, 'alice', 'host');
    expect(readRefusedLogins(host, paths)?.count).toBe(1);
    await writeLoginOutcome(host, paths, 'alice', 'session');
    expect(readRefusedLogins(host, paths)).toBeUndefined();
  });

  it.each(['', '{', '[]', '{"count":"x","people":{}}', '{"count":1}'])(
    'of a damaged record do not count: %j',
    text => {
      const w = new World();
      const { host, paths } = w.machine();
      w.makeDirs(paths.run);
      w.put(paths.refused, text);
      expect(readRefusedLogins(host, paths)).toBeUndefined();
      noteRefusedLogin(host, paths, 1001, 'MAYFLY-FULL');
      expect(readRefusedLogins(host, paths)?.count).toBe(1);
    },
  );

  it.each([
    [1, { 1: 'A' }, 'a login was refused since the last one that succeeded: A', 'WARNING'],
    [3, { 1: 'A' }, '3 logins of one user were refused since the last one that succeeded: A', 'WARNING'],
    [
      3,
      { 1: 'B', 2: 'A', 3: 'A' },
      '3 logins of 3 users were refused since the last one that succeeded: A, B',
      'CRITICAL',
    ],
  ] as const)('%i of %j are "%s"', (count, people, words, level) => {
    const refused = { count, people };
    expect(describeRefused(refused)).toBe(words);
    expect(healthIssues({ ...facts, refused }, 0)).toEqual([{ topic: 'refused', level, words }]);
  });
});

describe('the line for monitoring', () => {
  it('tells of an invalid configuration, of blocked logins, and of what its caller adds', () => {
    const of = (more: Partial<HealthFacts>): string => healthLine({ ...facts, ...more }, 0).line;
    expect(of({})).toMatch(/^OK - generation 2 /);
    expect(of({ invalid: 'f:1: no' })).toMatch(
      /^WARNING - the configuration is invalid, .* is used: f:1: no, /,
    );
    expect(of({ blocked: 'a restart' })).toMatch(/^WARNING - logins are blocked: a restart, /);
    const more = [{ topic: 'setup', level: 'CRITICAL', words: 'service: it is not running' }] as const;
    expect(healthLine(facts, 0, more)).toMatchObject({
      level: 'CRITICAL',
      line: expect.stringContaining('not running'),
    });
  });
});

describe('a refused login of somebody whom a slow directory knows', () => {
  it('is recorded with one question, which has a limit', async () => {
    const w = preparedWorld();
    const on = w.machine();
    const asked: (number | undefined)[] = [];
    const host = {
      ...w.host,
      run: async (c: Parameters<typeof w.host.run>[0]) => {
        if (c.file === 'getent') asked.push(c.limit);
        return w.host.run(c);
      },
    };
    await recordRefusal(host, on, 'far.away', new MayflyError('timeout', 'x'));
    expect(asked).toEqual([LOOKUP_LIMIT]);
  });
});
