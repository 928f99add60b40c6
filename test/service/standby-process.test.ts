/** The hook that the service keeps waiting: nothing that goes wrong with it ends the service. */
import { expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import type { Host } from '../../src/linux/host.ts';
import { logTo } from '../../src/linux/log.ts';
import { standbyProcess } from '../../src/service/standby-process.ts';
import { preparedWorld } from '../world.ts';

it('a directory that cannot be used is told of, and tried again after half a minute', async () => {
  const w = preparedWorld();
  const said: string[] = [];
  let tries = 0;
  const own: Host['own'] = path => {
    tries++;
    throw new MayflyError('unsafe', `"${path}" is not a directory`);
  };
  const on = { ...w.machine(), host: { ...w.host, own }, log: logTo((_, words) => void said.push(words)) };
  const standby = standbyProcess('/nowhere');
  for (let round = 0; round < 3; round++) standby.keep(on);
  expect(tries).toBe(1);
  expect(said).toEqual([
    expect.stringMatching(/^no hook could be started ahead: ".*\/standby" is not a directory$/),
  ]);
  await w.host.sleep(30_000);
  standby.keep(on);
  expect(tries).toBe(2);
  standby.close();
  await w.host.sleep(30_000);
  standby.keep(on);
  expect(tries).toBe(2);
});
