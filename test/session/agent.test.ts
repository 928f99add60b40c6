/** Requests of the agent's clients, and its end. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { describe, expect, it, vi } from 'vitest';
import { type HookRunner, requestOf, serveHooks } from '../../src/session/agent.ts';
import { thisHost } from '../../src/state/machine.ts';
import { preparedWorld } from '../world.ts';

describe('a request', () => {
  const w = preparedWorld();
  w.put('/program', 'x');
  w.put('/other', 'x');
  const keyOf = (path: string): string => {
    const s = w.host.stat(path);
    return s ? [s.dev, s.ino, s.size, s.mtimeMs].join() : '';
  };
  const own = keyOf('/program');
  const fields = (change: Record<number, string> = {}): string[] => {
    const all = [
      'mayfly-hook-3',
      '/program',
      '77',
      'alice',
      ':0',
      '/cookie',
      'hook',
      'pam',
      'start',
      '--caller',
      '5',
    ];
    for (const [i, text] of Object.entries(change)) all[Number(i)] = text;
    return all;
  };

  it('has the environment of a hook, its arguments and who waits', () => {
    expect(requestOf(w.host, fields(), own)).toEqual({
      client: 77,
      env: { USER: 'alice', DISPLAY: ':0', XAUTHORITY: '/cookie' },
      args: ['hook', 'pam', 'start', '--caller', '5'],
    });
  });

  it.each<[string, string[], string?]>([
    ['of another protocol', fields({ 0: 'mayfly-hook-2' })],
    ['of another program', fields({ 1: '/other' })],
    ['of a program that is gone', fields({ 1: '/gone' })],
    ['while our own program is gone', fields({ 1: '/gone' }), ''],
    ['that does not say who waits', fields({ 2: '' })],
    ['of process 1', fields({ 2: '1' })],
    ['of no process', fields({ 2: '7x' })],
    ['for another command', fields({ 6: 'update' })],
    ['for a dry run', [...fields(), '--dry-run']],
    ['without a caller, which would be ours', fields().slice(0, 9)],
    ['that is empty', []],
  ])('%s is left to the client', (_, all, key = own) => {
    expect(requestOf(w.host, all, key)).toBeUndefined();
  });
});

it('a fault that belongs to no call ends the agent, after it has completed what it has begun', async () => {
  const place = mkdtempSync(`${tmpdir()}/mayfly-agent-`);
  const path = `${place}/${process.pid}.sock`;
  const program = `${process.cwd()}/package.json`;
  let complete: (code: number) => void = () => undefined;
  let isWorking = false;
  const hook: HookRunner = {
    run: () =>
      new Promise(yes => {
        isWorking = true;
        complete = yes;
      }),
    limit: async () => 5,
    warmUp: async () => undefined,
    withOutput: (_, act) => act(),
  };
  const known = new Set(process.listeners('uncaughtException'));
  const input = vi.spyOn(process.stdin, 'on').mockReturnThis(); // the service is not there
  const served = serveHooks(thisHost, place, program, hook);
  while (!existsSync(path)) await new Promise(setImmediate);
  const fields = ['mayfly-hook-3', program, '77', 'alice', '', '', 'hook', 'pam', 'start', '--caller', '5'];
  const socket = createConnection(path);
  let said = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (said === 'ready 5\n') socket.write('go\n');
  });
  socket.write(`${fields.length}\0${fields.join('\0')}\0`);
  while (!isWorking) await new Promise(setImmediate);
  const ours = process.listeners('uncaughtException').filter(one => !known.has(one));
  expect(ours).toHaveLength(1);
  ours[0]?.(new Error('a fault'), 'uncaughtException');
  while (existsSync(path)) await new Promise(setImmediate);
  const closed = new Promise(yes => socket.once('close', yes));
  complete(0);
  await closed;
  expect(said).toBe('ready 5\nx 0\n');
  await expect(served).rejects.toThrow('a fault');
  // This process goes on.
  for (const one of ours) process.off('uncaughtException', one);
  input.mockRestore();
  rmSync(place, { recursive: true });
});
