/** What people do at a machine with virtual terminals, one after another and several at once. */
import { expect } from 'vitest';
import { mustBeGone } from '../desktop/desk.ts';
import type { Person } from '../desktop/workstation.ts';
import { type Vm, waitFor } from './vm.ts';

/** Whose session is on the screen; a greeter's is its own. */
export const front = (lab: Vm): string =>
  lab
    .script(
      'loginctl show-session "$(loginctl show-seat seat0 -p ActiveSession --value)" -p Name --value || true',
    )
    .trim();

/** A person's session is in front within so many seconds. */
export const inFront = (lab: Vm, { name }: Person, limit = 120): Promise<void> =>
  waitFor(() => front(lab) === name, limit, `${name} in front`);

/** On an emulated processor a greeter can be so slow that it loses what is typed, or gives the person up. */
const ATTEMPTS = 3;

/** A typed login at the greeter in front; resolves with the session's id when `program` of the desktop runs. */
export async function isIn(lab: Vm, person: Person, program = 'openbox'): Promise<string> {
  for (let n = 1; ; n++) {
    await lab.greeter();
    const began = Date.now();
    await lab.logIn(person);
    if (n === ATTEMPTS || (await hasBegun(lab, person))) return desktop(lab, person, program, began);
    console.log(`${person.name} types again`);
    lab.press('esc');
    await lab.still();
  }
}

/** Whether logind knows a session of the person soon. */
async function hasBegun(lab: Vm, { name }: Person): Promise<boolean> {
  const isKnown = (): boolean =>
    lab.run('sh', '-c', `loginctl list-sessions --no-legend | grep -qw "$1"`, 'sh', name).code === 0;
  return waitFor(isKnown, 120, 'the login').then(
    () => true,
    () => false,
  );
}

/** Waits for a desktop to be up and in front, which is how it began at `began`; resolves with the session's id. */
export async function desktop(lab: Vm, person: Person, program: string, began = Date.now()): Promise<string> {
  const { name } = person;
  await waitFor(() => lab.run('pgrep', '-u', name, '-x', program).code === 0, 300, `${name}'s ${program}`);
  console.log(`${program}: ${((Date.now() - began) / 1000).toFixed(0)} s after the first key`);
  await inFront(lab, person);
  const [id] = lab.sessions(name);
  return id ?? '';
}

/** The session is whole: on record, registered, and the desktop in it. */
export function mustLive(lab: Vm, { name }: Person, id: string, program = 'openbox'): void {
  expect(lab.sessions(name)).toEqual([id]);
  expect(lab.must('mayfly', 'sessions', '--json')).toContain(`"${id}"`);
  expect(lab.must('schroot', '-l')).toContain(id);
  expect(lab.processes(name).find(p => p.program === program)?.root).toBe(`/run/mayfly/roots/${id}`);
  expect(lab.script(`schroot -c ${id} -d / -u ${name} -- ls /usr/bin/env`).trim()).toBe('/usr/bin/env');
}

/** The person's desktop is ended, and soon nothing of the session is left. */
export async function ends(lab: Vm, person: Person, program = 'openbox'): Promise<void> {
  const { name } = person;
  lab.must('pkill', '-u', name, '-x', program);
  await waitFor(() => lab.sessions(name).length === 0, 120, `the end of ${name}'s session`);
  mustBeGone(lab, person);
}
