/** How the command line and the service run programs and log. Hooks have lean ones: loading these takes too long there. */
import { execaRunner } from '../linux/execa-runner.ts';
import { realHost } from '../linux/real-host.ts';
import { makeWinstonLog } from '../linux/winston-log.ts';

export const ports = { runner: execaRunner, makeLog: makeWinstonLog };

/** For what needs no machine. Without a deadline for commands. */
export const cliHost = realHost(ports);
