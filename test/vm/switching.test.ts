/** People at one machine one after another without logging out, with lightdm on real virtual terminals. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Person } from '../desktop/workstation.ts';
import { sleep } from '../system/lab.ts';
import { Vm, waitFor } from './vm.ts';

const alice: Person = { name: 'alice', password: 'wonder' };
const bob: Person = { name: 'bob', password: 'builder' };

let lab: Vm;

beforeAll(async () => {
  lab = Vm.make([alice, bob], 'lightdm');
  await lab.boot();
  await lab.greeter();
  lab.save();
});
beforeEach(() => lab.restore());
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  console.log(task.result.errors?.map(e => e.message).join('\n'));
  lab.shot(`failed-${task.name.replace(/\W+/g, '-').slice(0, 40)}`);
  console.log(lab.run('loginctl', '--no-pager').out);
  console.log(lab.run('journalctl', '--no-pager', '-b', '-n', '60').out);
});
afterAll(() => lab.close());

/** A typed login at the greeter in front; resolves with the session's id when the desktop is in front. */
async function isIn(p: Person): Promise<string> {
  await lab.greeter();
  await lab.logIn(p);
  await waitFor(() => lab.run('pgrep', '-u', p.name, '-x', 'openbox').code === 0, 300, `${p.name}'s desktop`);
  await waitFor(() => front() === p.name, 30, `${p.name} in front`);
  const [id] = lab.sessions(p.name);
  expect(id).toBeDefined();
  return id ?? '';
}

/** Whose session is on the screen. */
const front = (): string =>
  lab
    .script(
      'loginctl show-session "$(loginctl show-seat seat0 -p ActiveSession --value)" -p Name --value || true',
    )
    .trim();

const dmTool = (verb: string): void => {
  lab.script(`XDG_SEAT_PATH=/org/freedesktop/DisplayManager/Seat0 dm-tool ${verb}`);
};

/** The session is whole: on record, registered, and the desktop in it. */
function mustLive(p: Person, id: string): void {
  expect(lab.sessions(p.name)).toEqual([id]);
  expect(lab.must('mayfly', 'sessions', '--json')).toContain(`"${id}"`);
  expect(lab.must('schroot', '-l')).toContain(id);
  const desktop = lab.processes(p.name).find(x => x.program === 'openbox');
  expect(desktop?.root).toBe(`/run/mayfly/roots/${id}`);
  expect(lab.script(`schroot -c ${id} -d / -u ${p.name} -- ls /usr/bin/env`).trim()).toBe('/usr/bin/env');
}

async function mustEnd(p: Person): Promise<void> {
  await waitFor(() => lab.sessions(p.name).length === 0, 30, `the end of ${p.name}'s session`);
  expect(lab.leftOf(p.name)).toEqual([]);
  expect(lab.must('schroot', '-l')).not.toContain(`u${lab.must('id', '-u', p.name).trim()}-`);
}

describe('switching', () => {
  it('to another person and back leaves each in their own session, and each ends alone', async () => {
    const a = await isIn(alice);
    dmTool('switch-to-greeter');
    const b = await isIn(bob);
    lab.shot('switch-bob');
    mustLive(alice, a);
    mustLive(bob, b);
    dmTool('switch-to-greeter');
    await lab.greeter();
    lab.shot('switch-greeter');
    await lab.logIn(alice); // is there already: no second session, but lightdm runs the cleanup script
    await waitFor(() => front() === 'alice', 120, 'alice in front');
    await sleep(5000);
    lab.shot('switch-alice-again');
    mustLive(alice, a);
    mustLive(bob, b);
    lab.must('pkill', '-u', 'bob', '-x', 'openbox');
    await mustEnd(bob);
    mustLive(alice, a);
    lab.must('pkill', '-u', 'alice', '-x', 'openbox');
    await mustEnd(alice);
  });

  it('to the greeter, where a login is begun and cancelled, changes nothing', async () => {
    const a = await isIn(alice);
    dmTool('switch-to-greeter');
    await lab.greeter();
    await lab.keys(bob.name);
    await sleep(4000);
    lab.press('esc');
    await sleep(4000);
    await lab.keys(alice.name); // and the name of who is in
    await sleep(4000);
    lab.press('esc');
    await sleep(4000);
    mustLive(alice, a);
    expect(lab.sessions('bob')).toEqual([]);
  });
});

describe('a locked screen', () => {
  it('keeps the session through a wrong password, and the right one leads back to it', async () => {
    const a = await isIn(alice);
    dmTool('lock');
    await lab.greeter();
    lab.shot('locked');
    await lab.logIn({ name: 'alice', password: 'no' });
    await sleep(8000);
    await lab.still();
    lab.shot('locked-wrong');
    mustLive(alice, a);
    expect(front()).not.toBe('alice');
    await lab.logIn(alice);
    await waitFor(() => front() === 'alice', 120, 'alice in front');
    await sleep(5000);
    mustLive(alice, a);
    lab.must('pkill', '-u', 'alice', '-x', 'openbox');
    await mustEnd(alice);
  });
});

describe('the same person twice', () => {
  it('on a console, which is on the host: it outlives the desktop', async () => {
    await isIn(alice);
    lab.press('ctrl', 'alt', 'f3');
    await sleep(5000);
    await lab.logIn(alice);
    await waitFor(() => lab.run('pgrep', '-u', 'alice', '-t', 'tty3', 'bash').code === 0, 120, 'a shell');
    const shell = lab.must('pgrep', '-u', 'alice', '-t', 'tty3', 'bash').trim();
    expect(lab.must('readlink', `/proc/${shell}/root`).trim()).toBe('/');
    lab.must('pkill', '-u', 'alice', '-x', 'openbox');
    await mustEnd(alice);
    expect(lab.run('pgrep', '-u', 'alice', '-t', 'tty3', 'bash').out.trim()).toBe(shell);
  });
});
