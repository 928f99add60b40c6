/** The directory layout that the two file-system backends share. */
import { MayflyError } from '../errors.ts';
import { sweepTemporary } from '../linux/files.ts';
import type { Host } from '../linux/host.ts';
import {
  type BackendKind,
  isVolumeName,
  type Listing,
  type Role,
  requireVolumeName,
  type Volume,
} from './backend.ts';

/** Prefix of what is not finished or no longer whole: one rename makes it a volume, or stops it being one. */
const NEW = '.new-';

const OLD = '.old-';

function directoryOf(v: Volume): string {
  switch (v.role) {
    case 'master':
    case 'work':
      return v.pool;
    case 'generation':
      return `${v.pool}/generations`;
    case 'session':
      return `${v.pool}/sessions`;
  }
}

/** The directory of a session volume that is, or is being, made ready for whoever comes next. */
export function sparePath(origin: Volume): string {
  volumePath(origin);
  return `${origin.pool}/sessions/.spare-${origin.name}`;
}

export function volumePath(v: Volume): string {
  requireVolumeName(v);
  return `${directoryOf(v)}/${v.name}`;
}

/** Where a volume stands while it is made (`new`) or taken apart (`old`). */
export function asidePath(v: Volume, as: 'new' | 'old'): string {
  volumePath(v);
  return `${directoryOf(v)}/${as === 'new' ? NEW : OLD}${v.name}`;
}

/** Makes the pool's directories; refuses one that holds anything that is not ours. */
export function prepareLayout(host: Host, pool: string): void {
  const marker = `${pool}/.mayfly-pool`;
  host.mkdir(pool, 0o700);
  if (host.lstat(marker)?.kind !== 'file') {
    sweepTemporary(host, pool);
    const foreign = host.list(pool).filter(name => name !== 'lost+found');
    if (foreign.length > 0) {
      throw new MayflyError(
        'unsafe',
        `"${pool}" holds files that are not ours ("${foreign[0]}"); a pool needs an empty directory`,
        {
          path: pool,
        },
      );
    }
    host.write(marker, 'A pool of mayfly(8). Its volumes are managed by that program alone.\n', {
      mode: 0o600,
      durable: true,
    });
  }
  host.mkdir(`${pool}/generations`, 0o700);
  host.mkdir(`${pool}/sessions`, 0o700);
}

/** The reverse of {@link prepareLayout}, of an empty pool. */
export function dissolveLayout(host: Host, pool: string): void {
  for (const name of ['generations', 'sessions']) host.rmdir(`${pool}/${name}`);
  host.unlink(`${pool}/.mayfly-pool`);
}

/** Every volume under one of our names, and the directories of unfinished ones beside them. */
export function listLayout(
  host: Host,
  kind: BackendKind,
  pool: string,
  isVolume: (path: string, role: Role) => boolean,
): Listing {
  const volumes: Volume[] = [];
  const litter: string[] = [];
  const spares = new Map<number, string>();
  const look = (directory: string, roles: readonly Role[]): void => {
    for (const name of host.list(directory)) {
      const path = `${directory}/${name}`;
      const place = path.slice(pool.length + 1);
      const spare = /^\.spare-([1-9]\d{0,8})$/.exec(name)?.[1];
      if (spare !== undefined && host.lstat(path)?.kind === 'dir') spares.set(Number(spare), place);
      const bare = name.startsWith(NEW) || name.startsWith(OLD) ? name.slice(NEW.length) : name;
      const role = roles.find(r => isVolumeName(r, bare));
      if (role === undefined) continue;
      if (bare === name && isVolume(path, role)) volumes.push({ backend: kind, pool, role, name });
      if (bare !== name && host.lstat(path)?.kind === 'dir') litter.push(place);
    }
  };
  look(pool, ['master', 'work']);
  look(`${pool}/generations`, ['generation']);
  look(`${pool}/sessions`, ['session']);
  return { volumes, leftovers: litter, spares };
}

/** Throws unless nothing stands at the place of `v`. */
export function mustBeAbsent(host: Host, v: Volume): void {
  const path = volumePath(v);
  if (host.lstat(path)) throw new MayflyError('exists', `the volume "${path}" exists already`, { path });
}
