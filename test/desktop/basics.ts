/** The cases that hold with every lightdm. */
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { alice, endsBy, freshGreeter, isIn, logsOut, mustBeGone, mustBeInside } from './desk.ts';
import type { Machine } from './machine.ts';
import { startedWithVariables, withVariables } from './variables.ts';

export function typedLogin(machine: () => Machine): void {
  it('has the session as root, and what is broken in it is whole again at the next', async () => {
    const lab = machine();
    const id = await isIn(lab, alice);
    lab.script(`systemd-run --quiet --machine=alice@.host --user sleep 1000`);
    mustBeInside(lab, alice, id, 'openbox', 'systemd', 'dbus-daemon', 'sleep');
    lab.script(`schroot -c ${id} -d / -u root -- rm -rf /usr 2>/dev/null || true`);
    expect(fs.readdirSync(lab.at('/usr'))).toContain('bin');
    logsOut(lab, alice);
    // Were the unit refused by systemd, mayfly.service would end the session all the same, later.
    const unit = lab.must('systemctl', 'show', '-P', 'LoadState', `mayfly-end@${id}.service`);
    expect(unit.trim()).toBe('loaded');
    const next = await isIn(lab, alice);
    expect(next).not.toBe(id);
    expect(lab.script(`schroot -c ${next} -d / -u root -- ls /usr`)).toContain('bin');
    logsOut(lab, alice);
  });

  it('gives no program of root the variables that the user sets in PAM', async () => {
    const lab = machine();
    await withVariables(lab, alice, async () => {
      const id = await isIn(lab, alice);
      mustBeInside(lab, alice, id, 'openbox', 'systemd');
      // What the loader honours is taken out of the environment of set-user-ID programs, such as schroot.
      const has = (program: string): string =>
        lab.script(
          `tr '\\0' '\\n' </proc/$(pgrep -o -u alice -x ${program})/environ | grep -c ^NODE_OPTIONS= || true`,
        );
      expect(['openbox', 'systemd'].map(has)).toEqual(['1\n', '1\n']);
      logsOut(lab, alice);
      expect(startedWithVariables(lab)).toEqual(['alice']);
    });
  });
}

export function endsWithoutAWord(machine: () => Machine, ways: readonly (readonly [string, string])[]): void {
  it.each(ways)('%s', async (_, act) => {
    const lab = machine();
    await isIn(lab, alice);
    const after = endsBy(lab, alice, act);
    console.log(`${act}: gone ${after.toFixed(1)} s after logind's session`);
    mustBeGone(lab, alice);
  });
}

export function noLogin(machine: () => Machine): void {
  it('a wrong password, and another name', async () => {
    const lab = machine();
    await lab.greeter();
    await lab.mistype('alice');
    lab.shot('wrong-password');
    expect(lab.sessions('alice')).toEqual([]);
    await freshGreeter(lab);
    await lab.name('bob');
    // Back to the name: lightdm gives up what was begun for bob.
    lab.x('xdotool', 'key', 'shift+Tab', 'ctrl+a');
    await isIn(lab, alice);
    expect(lab.sessions('bob')).toEqual([]);
    logsOut(lab, alice);
  });
}

/** The last case of a machine. */
export function disable(machine: () => Machine, before: () => string): void {
  describe('disable', () => {
    it('leaves every file as it was', async () => {
      const lab = machine();
      await lab.greeter();
      console.log(lab.must('mayfly', 'disable', 'lightdm'));
      expect(lab.configuration()).toBe(before());
    });
  });
}
