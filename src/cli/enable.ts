/** Telling a display manager of the hooks, and taking it back. */

import { DEFAULT_CONFIG_FILE } from '../config/config.ts';
import { ADAPTERS, type Adapter } from '../desktop/adapters/specs.ts';
import { describeChange } from '../desktop/changes.ts';
import { disable, type Enabled, enable } from '../desktop/enable.ts';
import { MayflyError } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import type { CliCommand, Context } from './command.ts';

const adapter = {
  choices: ADAPTERS,
  demandOption: true,
  describe: 'the display manager; pam serves gdm, sddm and greetd',
} as const;

const RESTART = 'systemctl restart lightdm';

const ANY_LOGIN = 'gdm, sddm and greetd do so from the next login on; they need not be restarted';

const RESTART_GDM = 'systemctl restart gdm3';

const ENDS = 'a restart ends every desktop, so when nobody is logged in';

/**
 * What is left to the administrator. We never restart a display manager: it takes everybody's desktop along. lightdm
 * reads its settings when it starts; gdm asks PAM and its scripts at every login, but looks for desktops where it was
 * told to when it started.
 */
const AFTERWARDS: Record<Adapter, { restart: string | null; on: string; off: string }> = {
  lightdm: {
    restart: RESTART,
    on: `lightdm does so once it is restarted, and until then people in scope are refused; ${ENDS}: ${RESTART}`,
    off: `lightdm goes on with the hooks until it is restarted; ${ENDS}, and before mayfly is removed: ${RESTART}`,
  },
  gdm: {
    restart: RESTART_GDM,
    on: `gdm does so from the next login on, but until it is restarted it lists the host's desktops, whose Wayland ones run on the host; ${ENDS}: ${RESTART_GDM}`,
    off: `gdm does so from the next login on, but until it is restarted it looks for the volume's desktops; ${ENDS}: ${RESTART_GDM}`,
  },
  pam: { restart: null, on: ANY_LOGIN, off: ANY_LOGIN },
};

/** The hooks read the default file, so that another one would be asked about other sessions than theirs. */
async function machineOf({ flags, machine }: Context): Promise<Machine> {
  if (flags.config !== undefined && flags.config !== DEFAULT_CONFIG_FILE)
    throw new MayflyError('usage', `display managers' hooks read ${DEFAULT_CONFIG_FILE}, not --config`);
  return machine();
}

function tell(on: Machine, context: Context, name: Adapter, to: 'on' | 'off', done: Enabled): number {
  const { restart, [to]: words } = AFTERWARDS[name];
  const { changes, warnings } = done;
  for (const warning of warnings) on.log('warning', warning);
  const lines = changes.map(describeChange);
  const value = {
    adapter: name,
    enabled: to === 'on',
    changes: changes.map(({ act, path, why }) => ({ act, path, why })),
    restart: changes.length > 0 ? restart : null,
    warnings,
  };
  const state = to === 'on' ? 'enabled already' : 'not enabled';
  const text = changes.length > 0 ? [...lines, words].join('\n') : `${name} is ${state}; nothing to do`;
  if (context.flags.dryRun) context.show(value, text);
  else context.report(value, text);
  return 0;
}

export const enableCommand: CliCommand = {
  command: 'enable <adapter>',
  describe: 'have a display manager make a session for every login, and take desktops inside',
  positionals: { adapter },
  async run(args, context) {
    const on = await machineOf(context);
    const name = args.adapter as Adapter;
    return tell(on, context, name, 'on', await enable(on, name, { dryRun: context.flags.dryRun }));
  },
};

export const disableCommand: CliCommand = {
  command: 'disable <adapter>',
  describe: 'undo "enable", every file as it was; refused while there are sessions',
  positionals: { adapter },
  options: {
    force: { type: 'boolean', default: false, describe: 'also while there are sessions' },
  },
  async run(args, context) {
    const on = await machineOf(context);
    const name = args.adapter as Adapter;
    const o = { dryRun: context.flags.dryRun, force: args.force === true };
    return tell(on, context, name, 'off', await disable(on, name, o));
  },
};
