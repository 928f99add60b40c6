/** Fills an ephemeral home directory. */
import { MayflyError } from '../../errors.ts';
import { isPlainDirectory } from '../../linux/mounts.ts';
import type { Machine } from '../../state/machine.ts';
import type { Session } from '../../state/sessions.ts';
import type { Step } from './step.ts';

export const home: Step = {
  name: 'home',
  async up(s, on) {
    if (isEphemeral(s)) {
      await fillHome(s, on);
      makeSessionSockets(s, on);
    }
    return s;
  },
  /** The home is a tmpfs and goes with the mounts. */
  async down(s, { host }) {
    if (!isEphemeral(s)) return;
    const { removeLeftovers } = await import('../guest-leftovers.ts');
    await removeLeftovers(host, s);
  },
};

const isEphemeral = (s: Session): boolean =>
  s.mounts.some(m => m.type === 'tmpfs' && m.target === s.root + s.user.home);

/** Session managers have their sockets in a directory of root's, which a boot creates. A guest has a /tmp of their own. */
function makeSessionSockets(s: Session, { host }: Machine): void {
  const path = `${s.root}/tmp/.ICE-unix`;
  if (isPlainDirectory(host, s.root, '/tmp') && !host.lstat(path)) host.mkdir(path, 0o1777);
}

/** Copies the generation's /etc/skel. The home is empty and nobody can enter yet, so cp(1) and chown(1) are safe. */
async function fillHome(s: Session, { host }: Machine): Promise<void> {
  const skel = `${s.root}/etc/skel`;
  if (host.lstat(skel)?.kind !== 'dir') return;
  const home = s.root + s.user.home;
  const there = host.lstat(home);
  // In a dry run it is not there.
  if (there && (there.kind !== 'dir' || !s.devices.includes(there.dev))) {
    throw new MayflyError('unsafe', `"${home}" is not a directory of the session`, { path: home });
  }
  await host.run({
    file: 'cp',
    args: ['-a', '--no-preserve=ownership', '-T', '--', skel, home],
    effect: 'write',
  });
  await host.run({
    file: 'chown',
    args: ['-R', '-h', `${s.user.uid}:${s.user.gid}`, '--', home],
    effect: 'write',
  });
  await host.run({ file: 'chmod', args: ['0700', '--', home], effect: 'write' });
}
