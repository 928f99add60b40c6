/** The contract of every log. The journal is a datagram socket in a private mount namespace. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Amount, Fields, LogLevel } from '../../src/linux/log.ts';

type Entry = string | readonly [LogLevel, string, Fields?, ...Fields[]];

/** Receives a number of entries on the socket of the journal and prints them, separated by NUL. */
const JOURNAL = `
use strict; use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, sockaddr_un('/run/systemd/journal/socket')) or die $!;
open(my $ready, '>', '/run/ready'); close $ready;
alarm 20;
for (1 .. shift) { recv($s, my $entry, 65536, 0); syswrite STDOUT, $entry . "\\0"; }
`;

/** Runs a command with a private /run, with a journal that waits for a number of entries, or without a journal. */
const INSIDE = `
mount -t tmpfs none /run || exit 99
out=$1 count=$2 err=$3; shift 3
if [ "$count" != none ]; then
  mkdir -p /run/systemd/journal
  perl -e "$JOURNAL" "$count" >"$out" & journal=$!
  until [ -e /run/ready ]; do sleep 0.02; done
fi
if [ "$err" = /dev/full ]; then
  mkdir -p /run/systemd/journal; : >/run/systemd/journal/socket
  mount -o remount,size=64k /run; dd if=/dev/zero of=/run/all bs=4k 2>/dev/null
fi
if [ "$err" = gone ]; then
  { "$@" 2>&1; echo $? >"$out.code"; } | :
else
  "$@" 2>"$err"; echo $? >"$out.code"
fi
[ "$count" = none ] || wait $journal
`;

export function logContract(name: string): void {
  let directory: string;
  let program: string;
  beforeAll(() => {
    directory = fs.mkdtempSync(`${tmpdir()}/mayfly-log-`);
    program = `${directory}/process.cjs`;
    const entryPoints = [`${import.meta.dirname}/log-process.ts`];
    buildSync({ entryPoints, bundle: true, platform: 'node', format: 'cjs', outfile: program });
  });
  afterAll(() => fs.rmSync(directory, { recursive: true }));

  let runs = 0;
  /** Logs entries in another process. `due`: the number of entries that the journal waits for; undefined for none. */
  function say(
    entries: readonly Entry[],
    {
      due,
      amount = 'normal',
      journal = true,
      gone = false,
      full = false,
    }: { due?: number; amount?: Amount; journal?: boolean; gone?: boolean; full?: boolean } = {},
  ) {
    const out = `${directory}/${++runs}`;
    const words = [
      process.execPath,
      program,
      name,
      amount,
      journal ? 'journal' : '-',
      JSON.stringify(entries),
    ];
    const r = spawnSync(
      'unshare',
      [
        '--mount',
        '--',
        'sh',
        '-c',
        INSIDE,
        'sh',
        out,
        String(due ?? 'none'),
        gone ? 'gone' : full ? '/dev/full' : `${out}.err`,
        ...words,
      ],
      { env: { PATH: process.env.PATH, JOURNAL }, encoding: 'utf8' },
    );
    expect(r.stderr).toBe('');
    const read = (path: string): string => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : '');
    expect(read(`${out}.code`)).toBe('0\n');
    return {
      stderr: read(`${out}.err`),
      journal: read(out)
        .split('\0')
        .filter(Boolean)
        .map(entry => entry.trim().split('\n').sort()),
    };
  }
  const fields = (message: string, priority: number, ...more: string[]): string[] =>
    [`MESSAGE=${message}`, `PRIORITY=${priority}`, 'SYSLOG_IDENTIFIER=mayfly', ...more].sort();

  const all = (['err', 'warning', 'notice', 'info', 'debug'] as const).map(
    level => [level, `a ${level}`] as const,
  );

  describe(`the log by ${name}`, () => {
    it.each([
      ['quiet', ['err', 'warning']],
      ['normal', ['err', 'warning', 'notice', 'info']],
      ['verbose', ['err', 'warning', 'notice', 'info', 'debug']],
    ] as const)('prints the levels of "%s" on stderr, one line per entry', (amount, levels) => {
      const { stderr } = say(all, { amount, journal: false });
      expect(stderr).toBe(levels.map(level => `mayfly: a ${level}\n`).join(''));
    });

    it.each(['quiet', 'verbose'] as const)(
      'sends all levels but debug to the journal, also with "%s"',
      amount => {
        const { journal } = say([...all].reverse(), { due: 4, amount });
        const priorities = { err: 3, warning: 4, notice: 5, info: 6 };
        const expected = Object.entries(priorities).map(([level, p]) => fields(`a ${level}`, p));
        expect(journal.sort()).toEqual(expected.sort());
      },
    );

    it('has the session, the user, the code and the step as fields', () => {
      const { journal } = say(
        [['err', 'x', { session: 'u1-a', user: 'alice', code: 'MAYFLY-FULL', step: 'volume' }]],
        { due: 1 },
      );
      const more = [
        'MAYFLY_SESSION=u1-a',
        'MAYFLY_USER=alice',
        'MAYFLY_CODE=MAYFLY-FULL',
        'MAYFLY_STEP=volume',
      ];
      expect(journal).toEqual([fields('x', 3, ...more)]);
    });

    it('has child logs that add their fields to each entry', () => {
      const entry: Entry = ['info', 'x', { step: 'b' }, { session: 'u1-a', user: 'alice' }, { step: 'a' }];
      const plain: Entry = ['info', 'y'];
      const { journal, stderr } = say([entry, plain], { due: 2 });
      const more = ['MAYFLY_SESSION=u1-a', 'MAYFLY_USER=alice', 'MAYFLY_STEP=b'];
      expect(journal.sort()).toEqual([fields('x', 6, ...more), fields('y', 6)]);
      expect(stderr).toBe('mayfly: x\nmayfly: y\n');
    });

    it('lets no newline in a value start another field', () => {
      const evil = 'a\nPRIORITY=0\nMAYFLY_USER=root';
      const { journal } = say([['err', evil, { session: evil, user: evil, code: evil, step: evil }]], {
        due: 1,
      });
      const flat = evil.replaceAll('\n', ' ');
      const names = ['SESSION', 'USER', 'CODE', 'STEP'];
      expect(journal).toEqual([fields(flat, 3, ...names.map(n => `MAYFLY_${n}=${flat}`))]);
    });

    it('escapes control characters in messages and fields, and prints one line per entry', () => {
      const evil = 'x\u001b]0;y\u0007\r\n\u009b2J\u007f\u202e';
      const flat = 'x\\u001b]0;y\\u0007\\u000d \\u009b2J\\u007f\\u202e';
      const { journal, stderr } = say([['err', evil, { user: evil }]], { due: 1 });
      expect(journal).toEqual([fields(flat, 3, `MAYFLY_USER=${flat}`)]);
      expect(stderr).toBe(`mayfly: ${flat}\n`);
    });

    it('does not take a message for a format', () => {
      const { journal, stderr } = say([['info', 'full %s %d %j %%', { user: 'alice' }, { step: 'a' }]], {
        due: 1,
      });
      expect(journal).toEqual([fields('full %s %d %j %%', 6, 'MAYFLY_USER=alice', 'MAYFLY_STEP=a')]);
      expect(stderr).toBe('mayfly: full %s %d %j %%\n');
    });

    it('stays in order with other output on stderr', () => {
      const { stderr } = say(['1\n', ['info', '2'], '3\n', ['err', '4', {}, { user: 'a' }], '5\n'], {
        journal: false,
      });
      expect(stderr).toBe('1\nmayfly: 2\n3\nmayfly: 4\n5\n');
    });

    it('prints on stderr only if there is no journal', () => {
      expect(say([['info', 'x']])).toEqual({ stderr: 'mayfly: x\n', journal: [] });
    });

    it('loses nothing when the process ends at once', () => {
      const many = [...Array(30).keys()].map(n => ['info', `entry ${n}`] as const);
      const { journal, stderr } = say(many, { due: 30 });
      expect(journal.map(e => e[0]).sort()).toEqual(many.map(([, m]) => `MESSAGE=${m}`).sort());
      expect(stderr).toBe(many.map(([, m]) => `mayfly: ${m}\n`).join(''));
    });

    it('goes on if its stderr and the journal have no room', () => {
      const many = [...Array(20).keys()].map(n => ['info', `entry ${n}`] as const);
      expect(say(['text\n', ...many], { full: true })).toEqual({ stderr: '', journal: [] });
    });

    it('goes on after the reader of its stderr has gone', () => {
      const many = [...Array(20).keys()].map(n => ['info', `entry ${n} ${'x'.repeat(5000)}`] as const);
      expect(say(many, { due: 20, gone: true }).journal).toHaveLength(20);
    });
  });
}
