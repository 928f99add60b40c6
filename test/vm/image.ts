/**
 * The disk of a lab workstation for qemu: a stock Debian with both display managers. It has no boot loader, since qemu
 * loads the kernel itself, and no network.
 */
import * as fs from 'node:fs';
import type { Person } from '../desktop/workstation.ts';
import { buildPackage } from '../system/build-package.ts';
import { must, tarball } from '../system/lab.ts';

const packagesOf = (suite: string): string[] => [
  'linux-image-amd64,initramfs-tools,zstd,kmod,udev',
  'systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,polkitd,procps,psmisc,sudo,passwd,perl',
  'xserver-xorg-core,xserver-xorg-input-libinput,xauth,x11-utils,x11-xserver-utils,xdotool,fonts-dejavu-core',
  'lightdm,lightdm-gtk-greeter,adwaita-icon-theme,openbox,xterm,zenity',
  `gdm3,gnome-session,libgl1-mesa-dri,weston,foot${suite === 'trixie' ? ',gnome-session-xsession,bubblewrap' : ''}`,
  'busybox-static,nodejs,schroot,btrfs-progs,e2fsprogs,mmdebstrap',
];

/** Modules for the first seconds: the disk and its file system. All others are loaded from it. */
const MODULES = 'virtio_pci\nvirtio_blk\next4\n';

/**
 * Does what it is told over a virtio port: a line of JSON with an id and a command is answered by one with what
 * became of it, in the manner of qemu's own monitor. A port is much quicker than ssh here, and makes no logind session.
 */
const AGENT = `#!/usr/bin/perl
use strict;
use warnings;
use JSON::PP;
open(my $port, '+<:raw', '/dev/virtio-ports/bench') or die $!;
my $got = '';
while (1) {
  if (!sysread $port, $got, 65536, length $got) { # nobody is at the other end
    $got = '';
    select undef, undef, undef, 0.05;
  }
  while ($got =~ s/^(.*)\\n//) {
    my $answer = answer(decode_json($1));
    $answer = substr $answer, (syswrite $port, $answer) // last while length $answer;
  }
}
sub answer {
  my ($q) = @_;
  my ($out, $err) = ('/run/bench.out', '/run/bench.err');
  my $pid = fork // die $!;
  if (!$pid) {
    open STDIN, '<', '/dev/null';
    open STDOUT, '>', $out;
    open STDERR, '>', $err;
    %ENV = (PATH => '/usr/sbin:/usr/bin:/sbin:/bin', HOME => '/root', LC_ALL => 'C.UTF-8');
    exec { $q->{command}[0] } @{$q->{command}} or exit 127;
  }
  waitpid $pid, 0;
  my $code = $? & 127 ? 128 + ($? & 127) : $? >> 8;
  my ($o, $e) = map { open(my $f, '<:encoding(UTF-8)', $_); local $/; <$f> // '' } $out, $err;
  return encode_json({ id => $q->{id}, return => { code => $code, out => $o, err => $e } }) . "\\n";
}
`;

/** By its own name and not a getty's: nothing of it is in a logind session. */
const AGENT_UNIT = `[Unit]
After=dev-virtio\\x2dports-bench.device
Requires=dev-virtio\\x2dports-bench.device
[Service]
ExecStart=/usr/local/sbin/bench-agent
Restart=always
RestartSec=1
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target
`;

/** Virtual terminals and greeters as they come; names are typed rather than chosen from a list. */
const FILES: Readonly<Record<string, string>> = {
  '/etc/hostname': 'labmachine\n',
  '/etc/hosts': '127.0.0.1 localhost labmachine\n',
  '/etc/fstab': '/dev/vda / ext4 rw 0 1\n',
  '/etc/initramfs-tools/conf.d/bench': 'MODULES=list\n',
  '/etc/initramfs-tools/modules': MODULES,
  '/usr/local/sbin/bench-agent': AGENT,
  '/etc/systemd/system/bench-agent.service': AGENT_UNIT,
  '/etc/lightdm/lightdm.conf.d/10-bench.conf': '[Seat:*]\nuser-session=openbox\n',
  '/etc/gtk-3.0/settings.ini': '[Settings]\ngtk-cursor-blink=false\n', // for the screen to stand still
  '/etc/gdm3/greeter.dconf-defaults': '[org/gnome/login-screen]\ndisable-user-list=true\n',
};

/**
 * Everything that would take minutes in the machine is done here: $1 is the disk, $2 the tree, $3 the package, $4 the
 * display manager, then a name and a password for each person. In a mount namespace of its own, so that no mount is ever left.
 */
const PREPARE = `
set -eu
disk=$1 tree=$2 deb=$3 manager=$4
shift 4
root=$disk.root
mkdir $root
mount -o loop $disk $root
tar -xf $tree --exclude='./dev/*' -C $root
cp -r $disk.files/. $root
for d in proc sys dev; do mount --rbind --make-rslave /$d $root/$d; done
mount -t tmpfs none $root/run
in_tree() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 chroot $root "$@"; }
in_tree update-initramfs -u -k all
in_tree systemctl --quiet enable bench-agent.service
in_tree systemctl --quiet set-default multi-user.target
echo /usr/sbin/$manager >$root/etc/X11/default-display-manager
ln -sf /lib/systemd/system/$manager.service $root/etc/systemd/system/display-manager.service
cp $root/boot/vmlinuz-* $disk.linux
cp $root/boot/initrd.img-* $disk.initrd
cp $deb $root/root/mayfly.deb
in_tree dpkg -i /root/mayfly.deb
while [ $# -gt 0 ]; do
	in_tree useradd -m -s /bin/bash $1
	echo $1:$2 | in_tree chpasswd
	shift 2
done
in_tree mayfly init --from host --quiet
umount -R $root
`;

/** The files of the machine, made once. */
const vmImage = (suite: string): string => tarball('vm', packagesOf(suite).join(','), suite);

/**
 * Makes `dir`/disk, with the kernel and its first file system beside it: Mayfly is installed and has a generation, and
 * these people have accounts. The display manager is not started at boot yet.
 */
export function makeDisk(dir: string, people: readonly Person[], manager: string, suite = 'bookworm'): void {
  const path = `${dir}/disk`;
  for (const [name, text] of Object.entries(FILES)) {
    const to = `${path}.files${name}`;
    fs.mkdirSync(to.replace(/\/[^/]*$/, ''), { recursive: true });
    fs.writeFileSync(to, text, { mode: text.startsWith('#!') ? 0o755 : 0o644 });
  }
  must('truncate', ['-s', '12G', path]);
  must('mke2fs', ['-q', '-t', 'ext4', path]);
  const given = [path, vmImage(suite), buildPackage(dir), manager];
  const words = people.flatMap(p => [p.name, p.password]);
  must('unshare', ['-m', '--propagation', 'private', 'sh', '-c', PREPARE, 'sh', ...given, ...words]);
}
