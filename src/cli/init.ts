import { MayflyError } from '../errors.ts';
import { LVM_NAME, PACKAGE_NAME, RELEASE, SIZE } from '../names.ts';
import type { Machine } from '../state/machine.ts';
import { hostSuite } from '../update/apt-sources.ts';
import { init } from '../update/init.ts';
import { type LvmChoice, volumeGroupOf } from '../update/init-lvm.ts';
import { describeSource, type Source } from '../update/source.ts';
import type { BackendKind } from '../volume/backend.ts';
import type { CliCommand } from './command.ts';
import { clearLine, teller } from './update.ts';
import { refuseOptions } from './usage-errors.ts';

function sourceOf(on: Machine, args: Readonly<Record<string, unknown>>): Source {
  const from = String(args.from);
  if (from !== 'debootstrap')
    refuseOptions(args, ['suite', 'packages', 'variant'], 'belongs to "--from debootstrap"');
  if (from === 'host') return { kind: 'host' };
  if (from === 'debootstrap') {
    const suite = String(args.suite ?? '') || on.config.init.suite || hostSuite(on.host);
    if (!suite || !RELEASE.test(suite))
      throw new MayflyError('usage', `"${suite ?? ''}" is not a release; name one with --suite`);
    const packages = [...on.config.init.packages, ...String(args.packages ?? '').split(/[\s,]+/)].filter(
      Boolean,
    );
    const bad = packages.find(p => !PACKAGE_NAME.test(p));
    if (bad !== undefined) throw new MayflyError('usage', `"${bad}" is not the name of a package`);
    return { kind: 'debootstrap', suite, variant: String(args.variant ?? 'important'), packages };
  }
  if (!from.startsWith('/')) {
    throw new MayflyError(
      'usage',
      `--from takes "debootstrap", "host", or an absolute path; "${from}" is neither`,
    );
  }
  const kind = on.host.pathType(from);
  if (kind === undefined) throw new MayflyError('usage', `there is no "${from}"`, { path: from });
  return { kind: kind === 'dir' ? 'directory' : 'tarball', path: from };
}

const BACKENDS = ['overlay', 'btrfs', 'lvm-thin', 'lvm'] as const satisfies readonly BackendKind[];

/** What only LVM has; said for another backend it is a mistake. */
function choiceOf(args: Readonly<Record<string, unknown>>, backend: BackendKind): LvmChoice {
  const { vg, device, size } = args;
  if (backend !== 'lvm' && backend !== 'lvm-thin' && (vg ?? device ?? size) !== undefined)
    throw new MayflyError('usage', `--vg, --device and --size belong to LVM, not to "${backend}"`);
  if (vg !== undefined && !LVM_NAME.test(String(vg)))
    throw new MayflyError('usage', `"${vg}" is not the name of a volume group`);
  if (device !== undefined && !/^\/dev\/[\w./+-]+$/.test(String(device)))
    throw new MayflyError('usage', `"${device}" is not a device; name it as in "/dev/sdb"`);
  if (size !== undefined && !SIZE.test(String(size)))
    throw new MayflyError('usage', `"${size}" is not a size such as "16G"`);
  return {
    ...(vg === undefined ? {} : { group: String(vg) }),
    ...(device === undefined ? {} : { device: String(device) }),
    ...(size === undefined ? {} : { size: String(size) }),
  };
}

export const initCommand: CliCommand = {
  command: 'init',
  describe: 'make the pool and master, and seal generation 1',
  options: {
    backend: {
      choices: BACKENDS,
      describe: 'how sessions are forked (default: as configured, overlay)',
      requiresArg: true,
    },
    vg: { type: 'string', describe: 'LVM: the volume group', requiresArg: true },
    device: {
      type: 'string',
      describe: 'LVM: an empty device to make that volume group on',
      requiresArg: true,
    },
    size: {
      type: 'string',
      describe: 'LVM: how large the root of a session is (default: as configured, 16G)',
      requiresArg: true,
    },
    from: {
      type: 'string',
      default: 'debootstrap',
      describe: '"debootstrap", "host", a directory or a tarball',
      requiresArg: true,
    },
    suite: {
      type: 'string',
      describe: 'debootstrap: the release (default: the one this machine runs)',
      requiresArg: true,
    },
    packages: {
      type: 'string',
      describe: 'debootstrap: more packages, separated by commas',
      requiresArg: true,
    },
    variant: {
      choices: ['minbase', 'important', 'standard'] as const,
      describe: 'debootstrap: how much of a system (default: important)',
      requiresArg: true,
    },
  },
  async run(args, { flags, machine, show, report }) {
    const on = await machine();
    const backend = BACKENDS.find(b => b === args.backend) ?? on.config.pool.backend;
    const lvm = choiceOf(args, backend);
    const source = sourceOf(on, args);
    if (flags.dryRun) {
      const { pool, lvm: has } = on.config;
      const place = backend.startsWith('lvm') ? `/dev/${volumeGroupOf(on, lvm)}/${has.name}` : pool.path;
      show(
        { backend, source, pool: place },
        `would make a pool (${backend}) at ${place} and fill it from ${describeSource(source)}`,
      );
      return 0;
    }
    const generation = await init(on, { backend, source, lvm, say: teller(on, flags) });
    clearLine(flags);
    report(generation, `generation ${generation.number} is stable; logins get it from now on`);
    return 0;
  },
};
