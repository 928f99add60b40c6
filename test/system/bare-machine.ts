/** A machine that has just been installed: a fresh Debian tree with its own root, and nothing of ours in it. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import { must, type Ran, sh, tarball } from './lab.ts';

/** libnss-extrausers stands for a directory: NSS asks it after the local files. */
const PACKAGES =
  'busybox-static,nodejs,schroot,sudo,mount,passwd,btrfs-progs,e2fsprogs,bsdutils,procps,perl,libnss-extrausers';

export class BareMachine {
  /** A directory of the test's own, with the machine in it. */
  readonly dir = fs.mkdtempSync('/var/lib/mayfly-test-');
  readonly root = `${this.dir}/machine`;

  /** `more`: a name for the tree, and packages that it has besides. */
  constructor(more?: { readonly name: string; readonly packages: string }) {
    const image = more ? tarball(more.name, `${PACKAGES},${more.packages}`) : tarball('machine', PACKAGES);
    fs.mkdirSync(this.root);
    must('tar', ['-xf', image, '--exclude=./dev/*', '-C', this.root]);
    // As Debian's installer writes it.
    fs.writeFileSync(`${this.root}/etc/hosts`, `127.0.0.1 localhost\n127.0.1.1 ${os.hostname()}\n`);
  }

  /** Runs a script in the machine, in a mount namespace of its own, so that what it mounts is gone with it. */
  run(script: string): Ran {
    fs.writeFileSync(`${this.root}/root/script`, script);
    const enter = `
    set -e
    mount --bind "$1" "$1"
    mount --make-shared "$1" # as systemd does at boot
    for d in proc sys dev; do mount --rbind --make-rslave "/$d" "$1/$d"; done
    mount -t tmpfs none "$1/run"
    exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 sh -eu /root/script`;
    return sh('unshare', ['-m', '--propagation', 'private', 'sh', '-c', enter, 'sh', this.root]);
  }

  /** The same; throws with all that was said where it fails. */
  must(script: string): string {
    const r = this.run(script);
    if (r.code !== 0) throw new Error(`exit code ${r.code}: ${script}\n${r.out}\n${r.err}`);
    return r.out;
  }

  /** Removes it; throws where a mount is left. */
  close(): void {
    const mounts = fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    const left = mounts.filter(l => l.includes(this.dir));
    if (left.length > 0) throw new Error(`mounts are left: ${left.join('\n')}`);
    fs.rmSync(this.dir, { recursive: true });
  }
}
