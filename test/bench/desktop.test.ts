/** How long a person waits between the password's Return and the desktop, with Mayfly and without, on one machine. */
import * as fs from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { alice, endsBy, isIn, tell as tellOf, withMayfly } from '../desktop/desk.ts';
import { Machine } from '../desktop/machine.ts';
import { quantile, rounds, tell } from './rows.ts';

const ROUNDS = Math.min(rounds, 7);
/** Milliseconds that Mayfly may add. */
const BUDGET = 300;
/** How long after logind a session may still be there, in milliseconds. */
const END_BUDGET = 5000;

/**
 * Types the Return and waits until a window manager says on the screen that it is there (EWMH); prints milliseconds.
 * All of it on the machine, in one process that is told of it by the X server.
 */
const WATCH = `#!/usr/bin/perl
use strict; use Time::HiRes 'time';
# A property that nobody has ever named can not be watched.
system qw(xprop -root -f _NET_SUPPORTING_WM_CHECK 32c -set _NET_SUPPORTING_WM_CHECK 0);
system qw(xprop -root -remove _NET_SUPPORTING_WM_CHECK);
my $pid = open my $told, "-|", "xprop", "-root", "-spy", "_NET_SUPPORTING_WM_CHECK";
die "somebody's desktop is there" if <$told> =~ /window id/;
my $begin = time;
system "xdotool", "key", "Return";
while (<$told>) { last if /window id/ }
printf "%.0f\\n", 1000 * (time - $begin);
kill 9, $pid;
`;

let lab: Machine;

beforeAll(async () => {
  lab = Machine.make([alice]);
  fs.writeFileSync(lab.at('/usr/local/bin/watch-login'), WATCH, { mode: 0o755 });
  await withMayfly(lab);
});
afterEach(({ task }) => tellOf(lab, task));
afterAll(() => lab.close());

/** Milliseconds of one login, which is ended again with all that belongs to it: the next is as cold. */
async function login(): Promise<number> {
  await lab.greeter();
  await lab.name(alice.name);
  lab.x('xdotool', 'type', '--delay', '20', alice.password);
  const ms = Number(lab.x('timeout', '30', '/usr/local/bin/watch-login').out);
  expect(ms).toBeGreaterThan(0);
  lab.script(`
    pkill -u alice -x openbox
    while pgrep -u alice -x openbox >/dev/null || [ -n "$(ls /run/mayfly/sessions)" ]; do sleep 0.1; done
    systemctl stop user@$(id -u alice)`);
  await lab.greeter();
  return ms;
}

/** The same after `mayfly enable` or `disable`, which lightdm takes up when it is restarted. */
async function loginWith(verb: 'enable' | 'disable'): Promise<number> {
  lab.must('mayfly', verb, 'lightdm', '--quiet');
  lab.must('systemctl', 'restart', 'lightdm');
  return login();
}

const ms = (values: readonly number[]): number => Math.round(quantile(values, 0.5));

describe('a desktop', () => {
  it('from the password on, with Mayfly and without', async () => {
    // What is read from the disk the first time counts for neither.
    await loginWith('enable');
    await loginWith('disable');
    const rounds: { readonly on: number; readonly off: number }[] = [];
    for (let i = 0; i < ROUNDS; i++)
      rounds.push({ on: await loginWith('enable'), off: await loginWith('disable') });
    const [on, off] = [rounds.map(r => r.on), rounds.map(r => r.off)];
    // What else the machine does only ever adds to a time, so that the least ones tell what the work itself takes.
    tell({
      ...{ name: 'desktop/begin', metric: 'ms added, least', peer: 'without Mayfly', budget: BUDGET },
      value: Math.min(...on) - Math.min(...off),
      detail: { ms: ms(on), peer_ms: ms(off), rounds: ROUNDS },
    });
  });

  it('from the end of its login, as logind has it, to the last of the session', async () => {
    lab.must('mayfly', 'enable', 'lightdm', '--quiet');
    lab.must('systemctl', 'restart', 'lightdm');
    const ends: number[] = [];
    for (const act of ['pkill -u alice -x openbox', 'pkill -9 Xvfb', 'loginctl terminate-user alice']) {
      for (let i = 0; i < 3; i++) {
        await isIn(lab, alice);
        ends.push(1000 * endsBy(lab, alice, act));
      }
    }
    tell({
      ...{ name: 'desktop/end', metric: 'ms, worst', peer: '', budget: END_BUDGET },
      value: Math.max(...ends),
      detail: { rounds: ends.length },
    });
  });
});
