/** `enable` and `disable` the hooks of a display manager. */

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
  describe: 'display manager ("pam" is for gdm, sddm and greetd) or server of remote desktops',
} as const;

const RESTART = 'systemctl restart lightdm';

const NEXT_LOGIN = 'gdm, sddm and greetd run the hook from the next login on, without a restart';

const NEXT_REMOTE = 'it runs the hook from the next login on, without a restart';

const RESTART_GDM = 'systemctl restart gdm3';

const ENDS = 'a restart ends every desktop, so do it when nobody is logged in';

/**
 * What the administrator has to do afterwards. Mayfly never restarts a display manager, because that ends every
 * desktop. lightdm reads its settings when it starts. gdm runs PAM and its scripts at every login, but lists the desktops
 * of the directories that were set when it started.
 */
const AFTERWARDS: Record<Adapter, { restart: string | null; on: string; off: string }> = {
  lightdm: {
    restart: RESTART,
    on: `lightdm runs the hooks after its next restart, and until then logins of users in scope are refused; ${ENDS}: ${RESTART}`,
    off: `lightdm runs the hooks until its next restart; ${ENDS}, and before you remove mayfly: ${RESTART}`,
  },
  gdm: {
    restart: RESTART_GDM,
    on: `gdm runs the hooks from the next login on, but until its next restart it lists the host's desktops, and Wayland desktops run on the host; ${ENDS}: ${RESTART_GDM}`,
    off: `gdm runs no hooks from the next login on, but until its next restart it lists the desktops of the stable generation; ${ENDS}: ${RESTART_GDM}`,
  },
  pam: { restart: null, on: NEXT_LOGIN, off: NEXT_LOGIN },
  xrdp: { restart: null, on: NEXT_REMOTE, off: NEXT_REMOTE },
  tigervnc: { restart: null, on: NEXT_REMOTE, off: NEXT_REMOTE },
};

/** The hooks read the default file; with another one, `enable` would check for sessions that are not theirs. */
async function machineOf({ flags, machine }: Context): Promise<Machine> {
  if (flags.config !== undefined && flags.config !== DEFAULT_CONFIG_FILE)
    throw new MayflyError(
      'usage',
      `the hooks of display managers read ${DEFAULT_CONFIG_FILE}; --config does not apply`,
    );
  return machine();
}

function showResult(on: Machine, context: Context, name: Adapter, to: 'on' | 'off', done: Enabled): number {
  const { restart, [to]: afterwards } = AFTERWARDS[name];
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
  const state = to === 'on' ? 'already enabled' : 'not enabled';
  const text = changes.length > 0 ? [...lines, afterwards].join('\n') : `${name} is ${state}; nothing to do`;
  if (context.flags.dryRun) context.show(value, text);
  else context.report(value, text);
  return 0;
}

export const enableCommand: CliCommand = {
  command: 'enable <adapter>',
  describe: 'configure a display manager to create a session for every login and to run desktops in it',
  positionals: { adapter },
  async run(args, context) {
    const on = await machineOf(context);
    const name = args.adapter as Adapter;
    return showResult(on, context, name, 'on', await enable(on, name, { dryRun: context.flags.dryRun }));
  },
};

export const disableCommand: CliCommand = {
  command: 'disable <adapter>',
  describe: 'undo "enable" and restore all files; refused while there are sessions',
  positionals: { adapter },
  options: {
    force: {
      type: 'boolean',
      default: false,
      describe: 'disable it even if there are sessions; mayfly.service ends them',
    },
  },
  async run(args, context) {
    const on = await machineOf(context);
    const name = args.adapter as Adapter;
    const o = { dryRun: context.flags.dryRun, force: args.force === true };
    return showResult(on, context, name, 'off', await disable(on, name, o));
  },
};
