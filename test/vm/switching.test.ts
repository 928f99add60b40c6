/** People at one machine one after another without logging out, with lightdm on real virtual terminals. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { alice, bob, tell } from '../desktop/desk.ts';
import { sleep } from '../system/lab.ts';
import { ends, front, inFront, isIn, mustLive } from './people.ts';
import { Vm, waitFor } from './vm.ts';

let lab: Vm;

beforeAll(async () => {
  lab = Vm.make([alice, bob], 'lightdm');
  await lab.withMayfly();
  await lab.greeter();
  lab.save();
});
beforeEach(() => lab.restore());
afterEach(({ task }) => tell(lab, task));
afterAll(() => lab.close());

const dmTool = (verb: string): void => {
  lab.script(`XDG_SEAT_PATH=/org/freedesktop/DisplayManager/Seat0 dm-tool ${verb}`);
};

describe('switching', () => {
  it('to another person and back leaves each in their own session, and each ends alone', async () => {
    const a = await isIn(lab, alice);
    dmTool('switch-to-greeter');
    const b = await isIn(lab, bob);
    lab.shot('switch-bob');
    mustLive(lab, alice, a);
    mustLive(lab, bob, b);
    dmTool('switch-to-greeter');
    await lab.greeter();
    lab.shot('switch-greeter');
    await lab.logIn(alice); // is there already: no second session, but lightdm runs the cleanup script
    await inFront(lab, alice);
    await sleep(5000);
    lab.shot('switch-alice-again');
    mustLive(lab, alice, a);
    mustLive(lab, bob, b);
    await ends(lab, bob);
    mustLive(lab, alice, a);
    await ends(lab, alice);
  });

  it('to the greeter, where a login is begun and cancelled, changes nothing', async () => {
    const a = await isIn(lab, alice);
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
    mustLive(lab, alice, a);
    expect(lab.sessions('bob')).toEqual([]);
  });
});

describe('a locked screen', () => {
  it('keeps the session through a wrong password, and the right one leads back to it', async () => {
    const a = await isIn(lab, alice);
    dmTool('lock');
    await lab.greeter();
    lab.shot('locked');
    await lab.logIn({ name: 'alice', password: 'no' });
    await sleep(8000);
    await lab.still();
    lab.shot('locked-wrong');
    mustLive(lab, alice, a);
    expect(front(lab)).not.toBe('alice');
    await lab.keys(alice.password); // the name is still there
    await inFront(lab, alice);
    await sleep(5000);
    mustLive(lab, alice, a);
    await ends(lab, alice);
  });
});

describe('the same person twice', () => {
  it('on a console, which is on the host: it outlives the desktop', async () => {
    await isIn(lab, alice);
    lab.press('ctrl', 'alt', 'f3');
    await sleep(5000);
    await lab.logIn(alice);
    await waitFor(() => lab.run('pgrep', '-u', 'alice', '-t', 'tty3', 'bash').code === 0, 120, 'a shell');
    const shell = lab.must('pgrep', '-u', 'alice', '-t', 'tty3', 'bash').trim();
    expect(lab.must('readlink', `/proc/${shell}/root`).trim()).toBe('/');
    await ends(lab, alice);
    expect(lab.run('pgrep', '-u', 'alice', '-t', 'tty3', 'bash').out.trim()).toBe(shell);
  });
});
