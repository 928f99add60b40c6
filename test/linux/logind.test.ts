/** logind on D-Bus. The answers are those of systemd 252 (Debian 12). */
import { describe, expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import type { Command } from '../../src/linux/command.ts';
import type { Host } from '../../src/linux/host.ts';
import { isAnyoneLoggedIn, logindBus, logindFiles, parseSession } from '../../src/linux/logind.ts';
import { World } from '../world.ts';

interface Shown {
  readonly id: string;
  readonly uid?: number;
  readonly class?: string;
  readonly state?: string;
}

const path = (id: string): string => `/org/freedesktop/login1/session/_3${id}`;

const listOf = (all: readonly Shown[]): string =>
  JSON.stringify({
    type: 'a(susso)',
    data: [all.map(s => [s.id, s.uid ?? 1001, 'alice', 'seat0', path(s.id)])],
  });

const propertiesOf = (s: Shown): string =>
  `{"type":"a{sv}","data":[{"Id":{"type":"s","data":"${s.id}"},"User":{"type":"(uo)","data":[${s.uid ?? 1001},"/org/freedesktop/login1/user/_1001"]},"Name":{"type":"s","data":"alice"},"Timestamp":{"type":"t","data":1795883505994346},"TimestampMonotonic":{"type":"t","data":7200123456},"Seat":{"type":"(so)","data":["seat0","/org/freedesktop/login1/seat/seat0"]},"Display":{"type":"s","data":":0"},"Service":{"type":"s","data":"lightdm"},"Leader":{"type":"u","data":63},"Class":{"type":"s","data":"${s.class ?? 'user'}"},"State":{"type":"s","data":"${s.state ?? 'active'}"}}]}`;

/** A machine whose logind shows first these, and those after the first question. */
function machine(first: readonly Shown[], then = first, answers = true): { host: Host; asked: string[] } {
  const w = new World();
  w.makeDirs('/run/systemd/sessions');
  const asked: string[] = [];
  let lists = 0;
  const run = async ({ file, args }: Command) => {
    const call = [file, ...args].join(' ');
    asked.push(call);
    if (!answers) throw new MayflyError('command', `"${call}" failed with exit code 124`);
    if (call.includes('ListSessions')) {
      lists += 1;
      return { code: 0, stdout: listOf(lists === 1 ? first : then), stderr: '' };
    }
    const s = then.find(one => args.includes(path(one.id)));
    return s
      ? { code: 0, stdout: propertiesOf(s), stderr: '' }
      : { code: 1, stdout: '', stderr: 'Call failed: Unknown object' };
  };
  return { host: { ...w.host, run }, asked };
}

const mine = new Set([1001]);

describe('logind on the bus', () => {
  it('shows what its own files would', async () => {
    const { host } = machine([{ id: '5' }]);
    const expected = {
      id: '5',
      uid: 1001,
      state: 'active',
      class: 'user',
      service: 'lightdm',
      display: ':0',
      ...{ leader: 63, began: 7200123 },
    };
    expect(await logindBus.sessions(host, mine)).toEqual([expected]);
  });

  it('is asked about nobody else', async () => {
    const { host, asked } = machine([{ id: '5' }, { id: '6', uid: 1002 }]);
    expect(await logindBus.sessions(host, mine)).toHaveLength(1);
    expect(asked.filter(call => call.includes('GetAll'))).toHaveLength(1);
    expect(await logindBus.sessions(host, new Set())).toEqual([]);
    expect(asked).toHaveLength(2);
  });

  it('is given a time for each answer', async () => {
    const { host, asked } = machine([{ id: '5' }]);
    await logindBus.sessions(host, mine);
    expect(asked.every(call => call.startsWith('timeout -k 1 3 busctl '))).toBe(true);
  });

  it('shows a session no more that ends between two questions', async () => {
    const { host } = machine([{ id: '5' }, { id: '6' }], [{ id: '6' }]);
    expect((await logindBus.sessions(host, mine))?.map(s => s.id)).toEqual(['6']);
  });

  it('that does not answer about one session says nothing of any', async () => {
    const { host } = machine([{ id: '5' }]);
    const deaf: Host = {
      ...host,
      run: async c => (c.args.includes('GetAll') ? { code: 1, stdout: '', stderr: '' } : host.run(c)),
    };
    await expect(logindBus.sessions(deaf, mine)).rejects.toThrow(/does not answer about/);
  });

  it('that does not answer at all says nothing', async () => {
    const { host } = machine([], [], false);
    await expect(logindBus.sessions(host, mine)).rejects.toThrow(/124/);
    await expect(isAnyoneLoggedIn(host)).rejects.toThrow(/124/);
  });

  it('is not asked where there is none', async () => {
    const { host } = new World();
    const none: Host = { ...host, run: () => Promise.reject(new Error('asked')) };
    expect(await logindBus.sessions(none, mine)).toBeUndefined();
    expect(await isAnyoneLoggedIn(none)).toBe(false);
  });

  it.each([
    ['nobody', [], false],
    ['a person', [{ id: '5' }], true],
    ['a person who is leaving', [{ id: '5', state: 'closing' }], false],
    ['a greeter', [{ id: '5', class: 'greeter', uid: 113 }], false],
    ['root on a console of Debian 13', [{ id: '5', class: 'user-early', uid: 0 }], true],
    ['a person without a manager', [{ id: '5', class: 'user-light' }], true],
    ['a person whose home is locked', [{ id: '5', class: 'user-incomplete' }], true],
    ['a user manager', [{ id: '5', class: 'manager' }], false],
    ['the manager of root', [{ id: '5', class: 'manager-early', uid: 0 }], false],
    ['a cron job', [{ id: '5', class: 'background' }], false],
    ['a greeter and somebody over ssh', [{ id: '5', class: 'greeter', uid: 113 }, { id: '6' }], true],
  ])('with %s: is anyone logged in', async (_who, all, expected) => {
    expect(await isAnyoneLoggedIn(machine(all).host)).toBe(expected);
  });
});

it('session files in another directory stand in for it', async () => {
  const w = new World();
  w.makeDirs('/d');
  w.put('/d/c1', 'UID=1001\nSTATE=active\n');
  expect(await logindFiles('/d').sessions(w.host, mine)).toMatchObject([{ id: 'c1', uid: 1001 }]);
  expect(await logindFiles('/none').sessions(w.host, mine)).toBeUndefined();
});

it('reads the session files of logind', () => {
  const text =
    '# This is private data. Do not parse.\nUID=1001\nUSER=alice\nACTIVE=1\nSTATE=active\nSERVICE=lightdm\nCLASS=user\nDISPLAY=":0"\nLEADER=70\nREALTIME=1600000000123456\nMONOTONIC=7200123456\n';
  expect(parseSession('c2', text)).toEqual({
    id: 'c2',
    uid: 1001,
    state: 'active',
    class: 'user',
    service: 'lightdm',
    display: ':0',
    leader: 70,
    began: 7200123,
  });
});
