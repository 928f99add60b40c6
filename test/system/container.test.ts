/** A machine that is a container of LXC: each device is a mount on an empty file. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { BareMachine } from './bare-machine.ts';
import { sharedPackage } from './build-package.ts';
import { makeMiniTree } from './mini.ts';

let m: BareMachine;

/** Puts a /dev of its own in the place of that of the test; the devices are those that were there. */
const DEV = `
  mkdir /run/dev; mount --rbind /dev /run/dev
  mount -t tmpfs -o mode=755 dev /dev; mkdir /dev/pts /dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
  for name in null zero full random urandom tty; do touch /dev/$name; mount --bind /run/dev/$name /dev/$name; done
  touch /dev/ptmx; mount --bind /dev/pts/ptmx /dev/ptmx
  umount -l /run/dev; rmdir /run/dev
  ln -s /proc/self/fd /dev/fd`;

beforeAll(() => {
  m = new BareMachine();
  fs.copyFileSync(sharedPackage(), `${m.root}/root/mayfly.deb`);
  const tree = makeMiniTree(`${m.root}/root/tree`, ['id', 'script', 'stat', 'tty']);
  for (const name of ['shadow', 'nsswitch.conf']) fs.rmSync(`${tree}/etc/${name}`);
  m.must(`dpkg --force-depends -i /root/mayfly.deb >/dev/null 2>&1
    useradd -m -s /bin/sh alice
    mayfly init --from /root/tree --quiet`);
});
afterAll(() => m.close());

it('has its devices in sessions, and people open terminals', () => {
  const out = m.must(`${DEV}
    mayfly recover --quiet
    USER=alice DISPLAY=:1 mayfly hook lightdm start
    id=$(sed -n 's/^\\[\\(u.*\\)\\]$/\\1/p' /etc/schroot/chroot.d/mayfly-*)
    for user in alice root; do
      schroot -c "$id" -d / -u $user -- sh -c 'stat -c %F /dev/null /dev/tty /dev/ptmx; script -qec "id -un; tty" /dev/null </dev/null; true >/dev/null'
    done
    USER=alice DISPLAY=:1 mayfly hook lightdm stop
    stat -c %F /dev/null /dev/ptmx; ! grep /run/mayfly/roots/ /proc/self/mountinfo`);
  const devices = 'character special file\n';
  const inside = (name: string): string => `${devices.repeat(3)}${name}\n/dev/pts/0\n`;
  expect(out.replaceAll('\r', '').replaceAll('^@', '').replaceAll('\0', '')).toBe(
    inside('alice') + inside('root') + devices.repeat(2),
  );
});

it('updates and edits its master with terminals', () => {
  const out = m.must(`${DEV}
    mayfly recover --quiet
    script -qec 'mayfly enter master --discard --quiet -- sh -c "stat -c %F /dev/null /dev/ptmx; script -qec tty /dev/null </dev/null"' /dev/null </dev/null`);
  expect(out).toMatch(/(character special file\s+){2}[^/]*\/dev\/pts\/\d/);
});
