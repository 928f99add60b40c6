/** The directories of an instance: what root believes is in directories of root. */
import { expect, it } from 'vitest';
import { login } from '../../src/session/session.ts';
import { makeDirectories } from '../../src/state/paths.ts';
import { callOf, preparedWorld } from '../world.ts';

it.each(['sessions', 'state', 'generations'] as const)('the directory %s is made root’s', which => {
  const w = preparedWorld();
  const { host, paths } = w.machine();
  const path = paths[which];
  w.chown(path, 1001, 0o777);
  if (which !== 'sessions') host.rmdir(paths.locks); // somebody has moved the state: not all directories are there
  makeDirectories(host, paths);
  expect(host.lstat(path)).toMatchObject({ uid: 0, gid: 0, mode: 0o700 });
});

it('a login makes the directory of records root’s before it writes one', async () => {
  const w = preparedWorld();
  const on = w.machine();
  w.chown(on.paths.sessions, 1001, 0o777);
  const owners: (number | undefined)[] = [];
  const host = {
    ...on.host,
    write: (...args: Parameters<typeof on.host.write>) => {
      if (args[0].startsWith(`${on.paths.sessions}/`)) owners.push(on.host.lstat(on.paths.sessions)?.uid);
      on.host.write(...args);
    },
  };
  await login({ ...on, host }, callOf(w, 'alice', ':0'));
  expect(new Set(owners)).toEqual(new Set([0]));
});
