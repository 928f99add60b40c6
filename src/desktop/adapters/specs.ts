/** The table of adapters: the files of each, and how it is enabled and disabled. */

import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import { inOneLine } from '../../volume/backend.ts';
import type { Change } from '../changes.ts';
import { GDM_DROP_IN, planDropIns } from '../systemd-drop-ins.ts';
import {
  findGdm,
  GDM_HOOKS,
  GDM_SCRIPTS,
  gdmCalls,
  gdmPath,
  gdmWarnings,
  hasGdmScripts,
  planGdmOff,
  planGdmOn,
} from './gdm.ts';
import {
  hasLightdmDirectory,
  LIGHTDM_FILE,
  LIGHTDM_HOOKS,
  lightdmCalls,
  lightdmFiles,
  lightdmWarnings,
  planLightdmOff,
  planLightdmOn,
} from './lightdm.ts';
import { checkLauncher, checkPam, PAM_HOOK, pamCalls, pamWarnings, planPamOff, planPamOn } from './pam.ts';

/** What can be enabled: display managers, and PAM for those without scripts of their own. */
export const ADAPTERS = ['lightdm', 'gdm', 'pam'] as const;

export type Adapter = (typeof ADAPTERS)[number];

/** One display manager: its files, and how it is enabled and disabled. */
export interface AdapterSpec {
  readonly package: string;
  readonly program: string;
  /** Other adapters that are enabled and disabled with it. */
  readonly through: readonly Adapter[];
  /** The hooks that it runs. */
  readonly hooks: readonly string[];
  /** The configuration files that we write. */
  readonly files: readonly string[];
  /** Whether its configuration calls our hooks. */
  calls(host: Host): boolean;
  /** Throws `refused` if it cannot be enabled on this machine. */
  check(host: Host): Promise<void>;
  planOn(host: Host): Promise<Change[]>;
  planOff(host: Host): Promise<Change[]>;
  warnings(host: Host): readonly string[];
}

export const adapterSpecs: Record<Adapter, AdapterSpec> = {
  lightdm: {
    package: 'lightdm',
    program: '/usr/sbin/lightdm',
    through: [],
    hooks: ['session-setup', 'session-cleanup', 'session-setup-then', 'session-cleanup-after'].map(
      name => `${LIGHTDM_HOOKS}/${name}`,
    ),
    files: [LIGHTDM_FILE],
    calls: host => lightdmCalls(lightdmFiles(host)),
    check: async host => checkLauncher(host),
    planOn: async host => planLightdmOn(lightdmFiles(host), hasLightdmDirectory(host)),
    planOff: async host => planLightdmOff(lightdmFiles(host)),
    warnings: host => lightdmWarnings(lightdmFiles(host)),
  },
  gdm: {
    package: 'gdm3',
    program: '/usr/sbin/gdm3',
    through: ['pam'],
    hooks: [PAM_HOOK, ...GDM_SCRIPTS.map(name => `${GDM_HOOKS}/${name}`)],
    files: GDM_SCRIPTS.map(gdmPath),
    calls: isGdmEnabled,
    check: async host => checkPam(host),
    // The scripts are a second line of defence: they start and end sessions if someone removes PAM's line.
    async planOn(host) {
      const scripts = (await hasGdmScripts(host)) ? planGdmOn(await findGdm(host)) : [];
      return [...scripts, ...planPamOn(host), ...planDropIns(host, GDM_DROP_IN)];
    },
    planOff: async host => [
      ...planDropIns(host, GDM_DROP_IN, true),
      ...planPamOff(host),
      ...planGdmOff(await findGdm(host)),
    ],
    warnings: host => [...pamWarnings(host), ...gdmWarnings(host).map(inOneLine)],
  },
  pam: {
    package: 'libpam-runtime',
    program: '/usr/sbin/pam-auth-update',
    through: [],
    hooks: [PAM_HOOK],
    files: [],
    calls: pamCalls,
    check: async host => checkPam(host),
    planOn: async host => planPamOn(host),
    async planOff(host) {
      if (!isGdmEnabled(host)) return planPamOff(host);
      throw new MayflyError('refused', 'gdm is enabled, and PAM creates its sessions', {
        hint: 'mayfly disable gdm, which disables both',
      });
    },
    warnings: pamWarnings,
  },
};

/** By the scripts or the drop-in: gdm 50 and later have no scripts, and PAM's line may belong to another display manager. */
function isGdmEnabled(host: Host): boolean {
  return gdmCalls(host) || Object.keys(GDM_DROP_IN).some(path => host.lstat(path) !== undefined);
}
