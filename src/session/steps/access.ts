/** Lets the user in: the schroot entry, and the root of their service manager. Opened last, closed first. */
import { MayflyError } from '../../errors.ts';
import { removeIfEmpty, sweepTemporary } from '../../linux/files.ts';
import { userFiles } from '../../state/paths.ts';
import { hasNamespaces } from '../mount-namespace.ts';
import { entryPath, renderEntry } from '../schroot.ts';
import { redirectUserManager, resetUserManager } from '../user-manager.ts';
import type { Step } from './step.ts';

export const access: Step = {
  name: 'access',
  async up(s, on) {
    const { host, paths } = on;
    if (host.pathType(paths.schroot) !== 'dir') {
      throw new MayflyError(
        'missing-tool',
        `schroot is not installed: there is no directory "${paths.schroot}"`,
        { tool: 'schroot' },
      );
    }
    host.write(entryPath(paths.schroot, s.id), renderEntry(s, on.config.root_users), { mode: 0o644 });
    if (s.kind === 'login') {
      const theirs = userFiles(paths, s.user.uid);
      host.mkdir(theirs.directory, 0o755);
      host.write(theirs.session, `${s.id}\n`, { mode: 0o644 });
      await redirectUserManager(on, s);
    }
    return { ...s, namespace: hasNamespaces(host, paths) };
  },
  async down(s, { host, paths }) {
    const theirs = userFiles(paths, s.user.uid);
    if (host.read(theirs.session)?.trim() === s.id) host.unlink(theirs.session);
    resetUserManager(host, paths, s.user.uid, s.root);
    host.unlink(entryPath(paths.schroot, s.id));
    sweepTemporary(host, theirs.directory); // of a login that was killed while it wrote
    removeIfEmpty(host, theirs.directory);
  },
};
