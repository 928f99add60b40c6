/**
 * How the command line and the service run programs and log: by execa and winston. Hooks have lean ones instead. Each
 * is loaded when something is run, or a machine is opened: `mayfly scope`, which every login asks, needs neither.
 */
import type { Runner } from '../linux/command.ts';
import { realHost } from '../linux/real-host.ts';
import { type Machine, type MachineOptions, type OpenOptions, openMachine } from '../state/machine.ts';

const loadRunner = async (): Promise<Runner> => (await import('../linux/execa-runner.ts')).execaRunner;

/** For what needs no machine. Without a deadline for commands. */
export const cliHost = realHost({
  runner: { run: async (c, deadline) => (await loadRunner()).run(c, deadline) },
});

export async function openCliMachine(o: MachineOptions, by: OpenOptions = {}): Promise<Machine> {
  const { makeWinstonLog } = await import('../linux/winston-log.ts');
  return openMachine(o, { runner: await loadRunner(), makeLog: makeWinstonLog, ...by });
}
