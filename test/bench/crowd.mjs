// Benchmark 5: many sessions at once.
import { spawn } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { schrootPeer } from './login.mjs';
import { breathe, ratioRow, roundRobin, run, runTogether, until } from './measure.mjs';
import {
  atEnd,
  endAll,
  hook,
  lightdm,
  makeSandbox,
  mountsBelow,
  mustBeGone,
  mustBeListed,
  mustBeUp,
  recordOf,
  sessionsOf,
} from './sandbox.mjs';

const CROWD = 300;
const TOGETHER = 20;

/** A process that keeps a mount namespace with nothing of ours in it; how to run things there. */
async function quietNamespace(s) {
  const holder = spawn('unshare', ['-m', '--propagation', 'private', 'sleep', 'infinity'], {
    stdio: 'ignore',
  });
  const through = ['nsenter', '-m', '-t', String(holder.pid), '--'];
  atEnd('the quiet namespace', async () => {
    endAll(s, through);
    const gone = new Promise(resolve => holder.once('exit', resolve));
    if (holder.kill('SIGKILL')) await gone;
  });
  const own = readlinkSync('/proc/self/ns/mnt');
  if (!(await until(() => readlinkSync(`/proc/${holder.pid}/ns/mnt`) !== own, 5000)))
    throw new Error('there is no other mount namespace');
  return { through, table: `/proc/${holder.pid}/mountinfo` };
}

/**
 * A login and a logout beside 300 sessions, against the same in another Mayfly whose mount namespace was made before
 * there were any: both at the same time, so that whatever else the machine does meets both.
 */
export async function crowd({ rounds, overlay, users, say }) {
  const full = await overlay();
  const empty = makeSandbox('empty', 'overlay', ['--from', full.tree]);
  const quiet = await quietNamespace(empty);
  const everybody = await users(CROWD + 1);
  const guest = everybody[CROWD];
  say(`making ${CROWD} sessions`);
  for (const user of everybody.slice(0, CROWD)) {
    await breathe();
    hook(full, 'setup', user);
  }
  if (sessionsOf(full).length !== CROWD) throw new Error(`there are ${sessionsOf(full).length} sessions`);
  const here = { through: ['nsenter', '-m', '-t', String(process.pid), '--'], table: '/proc/self/mountinfo' };
  const once = (s, { through, table }) => {
    const begin = hook(s, 'setup', guest, through);
    const record = recordOf(s, guest);
    mustBeUp(record, table);
    const mounts = mountsBelow('', table).length;
    const end = hook(s, 'cleanup', guest, through);
    mustBeGone(s, record);
    if (mountsBelow(record.root, table).length > 0) throw new Error(`${record.id} is still mounted`);
    return { begin, end, mounts };
  };
  const { crowded, alone } = await roundRobin(rounds, {
    crowded: () => once(full, here),
    alone: () => once(empty, quiet),
  });
  say(`mounts: ${crowded[0].mounts} with ${CROWD} sessions, ${alone[0].mounts} with none`);
  say(`ending ${CROWD} sessions`);
  for (const user of everybody.slice(0, CROWD)) {
    await breathe();
    hook(full, 'cleanup', user);
  }
  const column = (results, key) => results.map(r => r[key]);
  return [
    ratioRow('crowd/begin', 'no sessions', column(crowded, 'begin'), column(alone, 'begin'), 1.5),
    ratioRow('crowd/end', 'no sessions', column(crowded, 'end'), column(alone, 'end'), 1.5),
  ];
}

/** 20 logins at the same moment: wall time to the last. */
export async function together({ slowRounds, overlay, users }) {
  const s = await overlay();
  const people = await users(TOGETHER);
  const entry = schrootPeer(s);
  const { ours, schroot } = await roundRobin(slowRounds, {
    ours: async () => {
      const ms = await runTogether(people.map(user => lightdm(s, 'setup', user)));
      for (const user of people) {
        const record = recordOf(s, user);
        mustBeUp(record);
        hook(s, 'cleanup', user);
        mustBeGone(s, record);
      }
      return ms;
    },
    schroot: async () => {
      const names = people.map(user => `${entry}-${user.uid}`);
      const ms = await runTogether(names.map(name => ['schroot', ['-b', '-c', entry, '-n', name]]));
      for (const name of names) {
        mustBeListed(`session:${name}`);
        run('schroot', ['-e', '-c', name]);
      }
      return ms;
    },
  });
  return [ratioRow('crowd/20-at-once', '20 x schroot -b', ours, schroot, 0.5)];
}
