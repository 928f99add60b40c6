/** Resolving a path that a user may be able to change. */
import { MayflyError } from '../errors.ts';
import { lookAt } from './files.ts';
import type { Host } from './host.ts';

/** As many symlinks as the kernel follows. */
const MOST_LINKS = 40;

export interface ResolveOptions {
  /** Paths at which something else is mounted, so that a symlink there is not seen. */
  readonly isMount?: (path: string) => boolean;
  /** Gets the directory of each symlink. */
  readonly passed?: string[];
  /** Follows everybody's symlinks. */
  readonly trusts?: boolean;
}

/**
 * Resolves the symlinks of an absolute path; what does not exist stays as it is. Throws `unsafe` for a symlink that does
 * not belong to root: its owner could point it to what others have behind a directory that only they or root can search.
 * The path may have changed when it is used, so whoever uses it must follow no symlink any more.
 */
export function resolveTrusted(host: Host, path: string, o: ResolveOptions = {}): string {
  let rest = path.split('/');
  let at = '';
  let links = 0;
  for (let part = rest.shift(); part !== undefined; part = rest.shift()) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at = at.slice(0, at.lastIndexOf('/'));
      continue;
    }
    const next = `${at}/${part}`;
    const there = o.isMount?.(next) ? undefined : lookAt(host, next); // a file server may hide it from root
    if (there?.kind !== 'link') {
      at = next;
      continue;
    }
    const target = host.readlink(next);
    const isLost = target === undefined || ++links > MOST_LINKS;
    if ((there.uid !== 0 && !o.trusts) || isLost) {
      const why = isLost ? 'cannot be followed' : 'does not belong to root';
      const message = `"${path}" leads through the symlink "${next}", which ${why}`;
      throw new MayflyError('unsafe', message, { path: next });
    }
    o.passed?.push(at === '' ? '/' : at);
    if (target.startsWith('/')) at = '';
    rest = [...target.split('/'), ...rest];
  }
  return at === '' ? '/' : at;
}
