/** An empty home directory for those who get one. */

import type { Machine } from '../../state/machine.ts';
import type { Session } from '../../state/sessions.ts';
import type { Step } from './step.ts';

/** An empty home for those who get one. */
export const home: Step = {
  name: 'home',
  async up(s, on) {
    const own = s.mounts.some(m => m.type === 'tmpfs' && m.target === s.root + s.user.home);
    if (own) await fillHome(s, on);
    return s;
  },
  async down() {},
};

/** An ephemeral home begins as the generation's /etc/skel. It is empty and no one is inside, so cp(1) is safe. */
async function fillHome(s: Session, { host }: Machine): Promise<void> {
  const skel = `${s.root}/etc/skel`;
  if (host.lstat(skel)?.kind !== 'dir') return;
  const home = s.root + s.user.home;
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
