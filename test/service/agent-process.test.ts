/** The agent as the service keeps it: nothing that goes wrong with it ends the service, and one that hangs is replaced. */
import { expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import type { Host } from '../../src/linux/host.ts';
import { logTo } from '../../src/linux/log.ts';
import type { Worker, WorkerEvents } from '../../src/linux/worker.ts';
import { agentKeeper, HUNG_AFTER } from '../../src/service/agent-process.ts';
import type { Machine } from '../../src/state/machine.ts';
import { preparedWorld, type World } from '../world.ts';

interface Started {
  readonly args: readonly string[];
  readonly events: WorkerEvents;
  readonly told: string[];
}

/** A service with agents that only record what they are told. */
function service(): { w: World; on: Machine; said: string[]; agents: Started[]; start: typeof begin } {
  const w = preparedWorld();
  const said: string[] = [];
  const agents: Started[] = [];
  const on = { ...w.machine(), log: logTo((_, words) => void said.push(words)) };
  const begin = (args: readonly string[], events: WorkerEvents): Worker => {
    const told: string[] = [];
    agents.push({ args, events, told });
    const tell = (what: string) => () => void told.push(what);
    return { ask: tell('ask'), release: tell('release'), kill: tell('kill') };
  };
  return { w, on, said, agents, start: begin };
}

it('a directory that cannot be used is told of, and tried again after half a minute', async () => {
  const { w, on, said } = service();
  let tries = 0;
  const own: Host['own'] = path => {
    tries++;
    throw new MayflyError('unsafe', `"${path}" is not a directory`);
  };
  const bad = { ...on, host: { ...w.host, own } };
  const agent = agentKeeper('/nowhere', '/none.toml');
  for (let round = 0; round < 3; round++) agent.keep(bad);
  expect(tries).toBe(1);
  expect(said).toEqual([expect.stringMatching(/the agent failed: ".*\/agent" is not a directory$/)]);
  await w.host.sleep(30_000);
  agent.keep(bad);
  expect(tries).toBe(2);
  agent.close();
  await w.host.sleep(30_000);
  agent.keep(bad);
  expect(tries).toBe(2);
});

it('one that cannot start is said once an hour', async () => {
  const { w, on, agents, start } = service();
  const levels: string[] = [];
  const own = { ...on, log: logTo(level => void levels.push(level)) };
  const agent = agentKeeper('/program', '/etc/own.toml', start);
  for (let n = 0; n < 4; n++) {
    agent.keep(own);
    agents[n]?.events.ended('it ended with 1');
    await w.host.sleep(n === 2 ? 3_600_000 : 30_000);
  }
  expect(levels).toEqual(['warning', 'debug', 'debug', 'warning']);
});

it('that of the machine listens where the hooks look, wherever the directories are', () => {
  const { on, agents, start } = service();
  const moved = { ...on, paths: { ...on.paths, run: '/srv/run' } };
  agentKeeper('/program', '/etc/mayfly/mayfly.toml', start).keep(moved);
  agentKeeper('/program', '/etc/own.toml', start).keep({ ...on, paths: { ...on.paths, run: '/run' } });
  expect(agents.map(({ args }) => args[4])).toEqual(['/run/mayfly/agent', '/run/agent']);
});

it('one that has ended is started anew after half a minute, in a directory without its socket', async () => {
  const { w, on, agents, start } = service();
  const agent = agentKeeper('/program', '/etc/own.toml', start);
  agent.keep(on);
  expect(agents[0]?.args).toEqual([
    '--v8-pool-size=1',
    '--max-semi-space-size=2',
    '/program',
    'agent',
    `${on.paths.run}/agent`,
    '/etc/own.toml',
  ]);
  w.put(`${on.paths.run}/agent/77.sock`, '');
  agents[0]?.events.ended('it ended with SIGKILL');
  agent.keep(on);
  expect(agents).toHaveLength(1);
  await w.host.sleep(30_000);
  agent.keep(on);
  expect(agents).toHaveLength(2);
  expect(w.host.list(`${on.paths.run}/agent`)).toEqual([]);
  agent.close();
  expect(agents[1]?.told).toEqual(['release']);
});

it('one that does not answer is killed and replaced; one that answers late, or is asked by a service that was stopped, is not', async () => {
  const { w, on, agents, start } = service();
  const agent = agentKeeper('/program', '/etc/own.toml', start);
  agent.keep(on);
  const [first] = agents;
  for (const wait of [HUNG_AFTER / 2, HUNG_AFTER * 10]) {
    agent.keep(on); // asks
    await w.host.sleep(wait);
    agent.keep(on); // notices
    first?.events.answered();
  }
  expect(first?.told).toEqual(['ask', 'ask']);
  agent.keep(on);
  await w.host.sleep(HUNG_AFTER + 1);
  for (let round = 0; round < 3; round++) agent.keep(on);
  expect(first?.told).toEqual(['ask', 'ask', 'ask', 'kill']);
  expect(agents).toHaveLength(2);
  first?.events.ended('it ended with SIGKILL');
  agent.keep(on);
  expect(agents[1]?.told).toEqual(['ask']);
});
