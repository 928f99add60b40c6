/** Requests of the agent's clients. */
import { describe, expect, it } from 'vitest';
import { requestOf } from '../../src/session/agent.ts';
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
      'mayfly-hook-2',
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
    ['of another protocol', fields({ 0: 'mayfly-hook-1' })],
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
