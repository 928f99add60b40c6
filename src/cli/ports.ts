/**
 * The command line and the service run programs with execa and log with winston; hooks use the lean implementations.
 * Both packages are loaded when a machine is opened, because `mayfly scope`, which runs at every login, needs neither.
 */
import type { Runner } from '../linux/command.ts';
import { realHost } from '../linux/real-host.ts';
import { type Machine, type MachineOptions, type OpenOptions, openMachine } from '../state/machine.ts';

const loadRunner = async (): Promise<Runner> => (await import('../linux/execa-runner.ts')).execaRunner;

/** The host for commands that need no machine. It loads execa when it runs a program, and has no deadline. */
export const cliHost = realHost({
  runner: { run: async (c, deadline) => (await loadRunner()).run(c, deadline) },
});

/** See {@link openMachine}. */
export async function openCliMachine(o: MachineOptions, by: OpenOptions = {}): Promise<Machine> {
  const { makeWinstonLog } = await import('../linux/winston-log.ts');
  return openMachine(o, { runner: await loadRunner(), makeLog: makeWinstonLog, ...by });
}
