/** The outcome of a login that the hook writes for the session wrapper, and what the wrapper does with it. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import { OUT_OF_TIME } from '../../src/linux/command.ts';
import { recover } from '../../src/service/recover.ts';
import { clearHostPass, writeLoginOutcome } from '../../src/session/outcome.ts';
import { logout } from '../../src/session/session.ts';
import { entryOf } from '../../src/session/unannounced.ts';
import { callOf, preparedWorld, type World } from '../world.ts';

const MINE = '/run/mayfly/users/1001';
const left = (w: World): string[] => w.host.list(MINE);
const refusal = new MayflyError('full', 'the pool is full');

describe('the outcome of a login', () => {
  it.each<[string, unknown[], string[]]>([
    ['writes nothing for a session', ['session'], []],
    ['writes "host" for the host', ['host'], ['host']],
    ['writes the reason of a refusal', [refusal], ['reason']],
    ['replaces "host" by the reason of a refusal', ['host', refusal], ['reason']],
    ['removes "host" for a session', ['host', 'session'], []],
    ['replaces the reason by "host"', [refusal, 'host'], ['host']],
    ['removes the reason for a session', [refusal, 'session'], []],
  ])('%s', async (_what, told, files) => {
    const w = preparedWorld();
    for (const what of told) await writeLoginOutcome(w.host, w.machine().paths, 'alice', what);
    expect(left(w)).toEqual(files);
    for (const name of files) expect(w.host.lstat(`${MINE}/${name}`)).toMatchObject({ uid: 0, mode: 0o644 });
  });

  it.each<[string, (w: World) => Promise<unknown>]>([
    ['a logout', w => logout(w.machine(), callOf(w, 'alice', ':0'), async () => undefined)],
    ['recovery', w => recover(w.machine())],
  ])('"host" is removed by %s, with its directory', async (_what, act) => {
    const w = preparedWorld();
    await writeLoginOutcome(w.host, w.machine().paths, 'alice', 'host');
    await act(w);
    expect(w.host.exists(MINE)).toBe(false);
  });

  it('does not wait for a directory that does not answer, and asks none about a session', async () => {
    const w = preparedWorld();
    const limits: (number | undefined)[] = [];
    const run: typeof w.host.run = async c => {
      limits.push(c.limit);
      return { code: OUT_OF_TIME, stdout: '', stderr: '' };
    };
    const host = { ...w.host, run };
    const write = (user: string | { uid: number }, what: unknown) =>
      writeLoginOutcome(host, w.machine().paths, user, what);
    for (const name of ['dora', '4711'])
      await expect(write(name, refusal)).rejects.toMatchObject({ code: 'unknown-user' });
    expect(limits).toEqual([3000, 3000]);
    await write({ uid: 1001 }, 'session');
    expect(limits).toHaveLength(2);
  });

  it('keeps the reason of a refusal after a logout', async () => {
    const w = preparedWorld();
    await writeLoginOutcome(w.host, w.machine().paths, 'alice', refusal);
    clearHostPass(w.host, w.machine().paths, 1001);
    expect(w.host.read(`${MINE}/reason`)).toBe('the pool is full (MAYFLY-FULL)\n');
  });
});

describe('the session wrapper', () => {
  const dir = mkdtempSync(`${tmpdir()}/mayfly-word-`);
  const mine = `${dir}/users/${process.getuid?.()}`;
  mkdirSync(`${dir}/bin`);
  afterAll(() => rmSync(dir, { recursive: true }));
  const program = (name: string, text: string): void =>
    writeFileSync(`${dir}/bin/${name}`, `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  /** The wrapper tries the session first. */
  const schroot = (text: string): void =>
    program(
      'schroot',
      `for last; do :; done\ncase $last in "echo entered "*) eval "$last"; exit ;; esac\n${text}`,
    );
  schroot('echo inside');
  program('mayfly', 'echo asked >&2; echo "alice gets a session; on failure: refuse"; exit 0');
  const desktop = (files: Readonly<Record<string, string>>) => {
    rmSync(mine, { recursive: true, force: true });
    mkdirSync(mine, { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(`${mine}/${name}`, text);
    const args = ['hooks/session-wrapper', '--run', dir, 'echo', 'on the host'];
    const { stdout, stderr } = spawnSync('sh', args, {
      env: { PATH: `${dir}/bin:/usr/bin:/bin` },
      encoding: 'utf8',
    });
    return `${stdout}${stderr}`;
  };
  const uptime = (): number => Number.parseFloat(readFileSync('/proc/uptime', 'utf8'));
  const ago = (seconds: number): string => `${Math.floor(uptime() - seconds)}\n`;
  it.each<[string, Record<string, string>, RegExp]>([
    ['allows the host for a new outcome', { host: ago(0) }, /^on the host\n$/],
    ['allows the host for an outcome of 50 s ago', { host: ago(50) }, /^on the host\n$/],
    ['refuses an outcome of an earlier login', { host: ago(70) }, /^asked\nmayfly: there is no session/],
    ['refuses an outcome from the future', { host: ago(-86_400) }, /^asked\nmayfly: there is no session/],
    [
      'refuses a time of day',
      { host: `${Math.floor(Date.now() / 1000)}\n` },
      /^asked\nmayfly: there is no session/,
    ],
    ['refuses a truncated outcome', { host: '' }, /^asked\nmayfly: there is no session/],
    ['refuses without an outcome', {}, /^asked\nmayfly: there is no session/],
    ['refused', { reason: 'the pool is full (MAYFLY-FULL)\n' }, /^asked\nmayfly: the pool is full/],
    ['enters a session regardless of the outcome', { host: ago(0), session: 'u1-0\n' }, /^inside\n$/],
  ])('%s', (_what, files, words) => expect(desktop(files)).toMatch(words));

  it('enters a session as logins are counted that no hook announces', () => {
    schroot('printf "%s\\n" schroot "$1" "$2" "$3" "$4" "$5" "$6"');
    const words = desktop({ session: 'u1-0\n' }).split('\n');
    schroot('echo inside');
    expect(entryOf(words, 'u1-0')).toBe('wrapper');
  });
});
