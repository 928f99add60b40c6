/** The table of adapters: the files of each, and how it is enabled and disabled. */

import { MayflyError } from '../../errors.ts';
import type { Host } from '../../linux/host.ts';
import type { Login } from '../../state/sessions.ts';
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
import {
  checkRemote,
  planRemoteOff,
  planRemoteOn,
  REMOTE_SERVERS,
  type RemoteServer,
  remoteCalls,
  remoteWarnings,
} from './remote.ts';

/** What can be enabled: display managers, PAM for those without scripts of their own, and servers of remote desktops. */
export const ADAPTERS = ['lightdm', 'gdm', 'pam', 'xrdp', 'tigervnc'] as const;

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

function remoteSpec(server: RemoteServer): AdapterSpec {
  return {
    package: server.package,
    program: server.program,
    through: [],
    hooks: [PAM_HOOK],
    files: [server.stack],
    calls: host => remoteCalls(host, server),
    check: async host => checkRemote(host, server),
    planOn: async host => planRemoteOn(host, server),
    planOff: async host => planRemoteOff(host, server),
    warnings: host => remoteWarnings(host, server),
  };
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
  xrdp: remoteSpec(REMOTE_SERVERS.xrdp),
  tigervnc: remoteSpec(REMOTE_SERVERS.tigervnc),
};

/** The adapter whose hook ends a login. Servers of remote desktops announce theirs through PAM: their process tells. */
export function adapterOf(host: Host, login: Login): Adapter | undefined {
  if (login.adapter === 'pam') {
    const name = host.read(`/proc/${login.caller.pid}/comm`) ?? '';
    for (const server of ['xrdp', 'tigervnc'] as const)
      if (REMOTE_SERVERS[server].callers.test(name)) return server;
  }
  return ADAPTERS.find(a => a === login.adapter);
}

/** By the scripts or the drop-in: gdm 50 and later have no scripts, and PAM's line may belong to another display manager. */
function isGdmEnabled(host: Host): boolean {
  return gdmCalls(host) || Object.keys(GDM_DROP_IN).some(path => host.lstat(path) !== undefined);
}
