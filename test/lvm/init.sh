#!/bin/sh
# The first process of the machine in user-mode Linux: makes it a machine, runs one command, and switches it off.
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -m 1777 /run/lock
mount -t tmpfs tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up 2>/dev/null
modprobe -a dm-mod dm-snapshot dm-thin-pool dm-flakey dm-dust loop overlay btrfs xfs
/lib/systemd/systemd-udevd --daemon
udevadm trigger
udevadm settle
mkdir -p /exchange /runner /var/cache/mayfly-test
word() { sed -n "s|.*mayfly.$1=\([^ ]*\).*|\1|p" /proc/cmdline; }
mount -t hostfs -o "$(word exchange)" exchange /exchange
mount -t hostfs -o "ro,$(word runner)" runner /runner
mount -t hostfs -o "ro,$(word trees)" trees /var/cache/mayfly-test
# In a work tree node_modules may be a link to another's.
if [ ! -d /clone/node_modules ]; then
	mkdir -p "$(word modules)"
	mount -t hostfs -o "ro,$(word modules)" modules "$(word modules)"
fi
# Quicker to start than the Debian one, which is made of many libraries.
mount --bind /runner/node /usr/bin/node
cd /clone || exit
sh /exchange/command >/exchange/output 2>&1
echo $? >/exchange/code
sync
echo o >/proc/sysrq-trigger
sleep 10
