/** The command line: usage errors and their messages, and how a session is named. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { runCli } from '../../src/cli/cli.ts';
import { sessionNamed, sessionsNamed } from '../../src/cli/run.ts';
import { preparedWorld } from '../world.ts';

const said = { 1: '', 2: '' };
vi.mock('../../src/linux/command.ts', async original => ({
  ...(await original<typeof import('../../src/linux/command.ts')>()),
  print: (fd: 1 | 2, text: string) => {
    said[fd] += text;
  },
}));
vi.spyOn(process, 'getuid').mockReturnValue(0);
afterEach(() => {
  said[1] = '';
  said[2] = '';
});

describe('a command line', () => {
  it.each([
    [['config', '--config', ''], 2, /^mayfly: --config needs a file\n/],
    [['status', '--config', 'typo.toml'], 3, /the configuration file "\/.*\/typo.toml" does not exist\n/],
    [
      ['config', '--config', 'package.json'],
      3,
      new RegExp(`^mayfly: ${resolve('package.json')}:1: invalid TOML`),
    ],
    [['run', '--user'], 2, /^mayfly: --user needs a value\nhint: mayfly run --help\n$/],
    [['--config'], 2, /^mayfly: --config needs a value\nhint: mayfly --help\n$/],
    [['run', '--generation', 'x', '--', 'true'], 2, /^mayfly: invalid generation "x"\n/],
    [['run', '--generation', '0', '--', 'true'], 2, /^mayfly: invalid generation "0"\n/],
    [['rollback', 'x'], 2, /^mayfly: invalid generation "x"\nhint: mayfly rollback --help\n/],
    [['rollback', '--', '2'], 2, /^mayfly: "rollback" takes no arguments after "--"\n/],
    [['scope', '--', 'root'], 2, /^mayfly: "scope" takes no arguments after "--"\n/],
    [['enter', '1', '--promote'], 2, /^mayfly: --promote only applies to "enter master"\n/],
    [['enter', 'alice', '--from', '1'], 2, /^mayfly: --from only applies to "enter master"\n/],
    [['enter', 'master', '--from', 'x'], 2, /^mayfly: invalid generation "x"\n/],
    [['enter', 'alice', '--discard'], 2, /^mayfly: --discard only applies to "enter master"\n/],
    [['end'], 2, /^mayfly: missing argument <session>: mayfly end <session>\n/],
    [
      ['enable', 'xdm'],
      2,
      /^mayfly: invalid adapter "xdm": choose from "lightdm", "gdm", "pam", "xrdp", "tigervnc"\n/,
    ],
    [['init', '--backend'], 2, /^mayfly: --backend needs a value\n/],
    [['init', '--backend', 'zfs'], 2, /^mayfly: invalid backend "zfs": choose from "overlay", "btrfs", .*\n/],
    [['doctor', '--trial', '--dry-run'], 2, /^mayfly: a trial login has no dry run/],
    [['no-such-verb'], 2, /^mayfly: unknown argument: no-such-verb\nhint: mayfly --help\n$/],
    [['statuz'], 2, /^mayfly: unknown command; did you mean "status"\?\nhint: mayfly --help\n$/],
    [['status', '--bogus', '--other'], 2, /^mayfly: unknown argument: bogus, other\n/],
    [['status', '--bogus'], 2, /^mayfly: unknown argument: bogus\nhint: mayfly status --help\n$/],
    [[], 2, /^mayfly: no command given\n/],
  ])('%j exits with status %i', async (argv, code, words) => {
    expect(await runCli(argv)).toBe(code);
    expect(said).toEqual({ 1: '', 2: expect.stringMatching(words) });
  });
});

describe('a command line of a user other than root', () => {
  const directory = mkdtempSync(`${tmpdir()}/mayfly-`);
  const empty = `${directory}/mayfly.toml`;
  writeFileSync(empty, '');
  afterAll(() => rmSync(directory, { recursive: true }));
  it.each([
    [['config', '--config', empty], 0],
    [['doctor', '--codes'], 0],
    [['status'], 2],
    [['doctor'], 2],
  ])('%j exits with status %i', async (argv, code) => {
    vi.mocked(process.getuid)?.mockReturnValue(1000);
    expect(await runCli(argv)).toBe(code);
    expect(said[2]).toMatch(code === 0 ? /^$/ : /must run as root\nhint: run the command as root\n/);
    vi.mocked(process.getuid)?.mockReturnValue(0);
  });
});

describe('a command line on a machine without a pool', () => {
  const dir = mkdtempSync(`${tmpdir()}/mayfly-cli-`);
  const [state, run] = [`${dir}/state`, `${dir}/run`];
  writeFileSync(`${dir}/mayfly.toml`, `[directories]\nstate = "${state}"\nrun = "${run}"\n`);
  afterAll(() => rmSync(dir, { recursive: true }));

  it.each([
    [
      ['init', '--dry-run', '--from', 'host', '--suite', 'sid'],
      2,
      /^mayfly: --suite only applies to "--from deb/,
    ],
    [
      ['init', '--dry-run', '--from', 'host', '--backend', 'lvm'],
      2,
      /^mayfly: name the volume group with --vg/,
    ],
    [
      ['run', '--dry-run', '--user', 'a:b', '--', 'true'],
      4,
      /invalid user name "a:b".*\nhint: mayfly doctor bad-user\n/,
    ],
    [['destroy'], 4, /^mayfly: there is no pool to remove\n/],
    [['init', '--dry-run', '--from', '/no/such'], 2, /^mayfly: "\/no\/such" does not exist\n/],
    [['run', '--user', 'no-such-account', '--dry-run', '--', 'jq', '--json'], 4, /no-such-account/],
  ])('%j exits with status %i', async ([command = '', ...rest], code, words) => {
    expect(await runCli([command, '--config', `${dir}/mayfly.toml`, ...rest])).toBe(code);
    expect(said).toEqual({ 1: '', 2: expect.stringMatching(words) });
  });

  it.each(['host', '/', '/usr/..'])('init --from %s prints what it would do', async from => {
    const args = ['init', '--dry-run', '--from', from, '--config', `${dir}/mayfly.toml`];
    expect(await runCli(args)).toBe(0);
    expect(said).toEqual({
      1: 'would create a pool (overlay) at /var/lib/mayfly/pool and fill it from the running system\n',
      2: '',
    });
  });
});

describe('a session argument', () => {
  const session = (id: string, name: string) => ({ id, user: { name } });
  const all = [
    session('u1001-8954eb22', 'r2xa'),
    session('u1002-00000001', 'u1003'),
    session('u1002-00000002', 'u1003'),
    session('u1003-00000003', 'bob'),
  ];

  it.each([
    ['u1001-8954eb22', ['u1001-8954eb22']],
    ['r2xa', ['u1001-8954eb22']],
    ['u1001-', ['u1001-8954eb22']],
    ['u1002-0', ['u1002-00000001', 'u1002-00000002']],
    ['u1003', ['u1002-00000001', 'u1002-00000002']], // a user name, not a prefix of bob's session
    ['u1001', []], // it may be a user who is not logged in
    ['u', []],
    ['', []],
    ['-', []],
  ])('of %j means %j', (arg, ids) => expect(sessionsNamed(all, arg).map(s => s.id)).toEqual(ids));

  it.each([
    ['', 'usage', /is empty/],
    ['nobody', 'unknown-session', /there is no session "nobody"/],
  ])('of %j is refused with the code %s', (arg, code, words) => {
    const on = preparedWorld().machine();
    expect(() => sessionNamed(on, arg)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(words) }),
    );
  });
});
