#!/bin/sh
# In user-mode Linux, after each boot: life.sh BACKEND recovers, looks whether all is sound, says so, and then lives
# until the power is cut: logins, logouts and updates, while the time of day jumps. With "make" it makes the pool
# instead. "btrfs" has the default pool, in an image; "btrfs-disk" has one on a disk of its own.
set -eu
mayfly() { node /clone/dist/mayfly.cjs "$@"; }
say() { echo "$*" >>/exchange/said; }
fail() {
	say "FAILED: $*"
	exit 1
}
backend=$1
pool=/var/lib/mayfly/pool
disks() { # what a boot mounts: the state and the pool are on disks whose power fails
	case $backend in
	lvm*) ;;
	*) mkdir -p /var/lib/mayfly && mount /dev/ubdb /var/lib/mayfly ;;
	esac
	[ "$backend" != btrfs-disk ] || { mkdir -p "$pool" && mount /dev/ubdc "$pool"; }
}
# Of every file that no login changes; an update takes policy-rc.d away again.
sums='find usr bin lib* -type f ! -name policy-rc.d | xargs sha256sum'

if [ "${2-}" = make ]; then
	case $backend in
	lvm*) vgcreate -q vg-test /dev/ubdb ;;
	*) mke2fs -q -t ext4 /dev/ubdb ;;
	esac
	[ "$backend" != btrfs-disk ] || mkfs.btrfs -q /dev/ubdc
	disks
	useradd -m -s /bin/sh mayfly-a
	useradd -m -s /bin/sh mayfly-b
	mkdir -p /etc/mayfly/refresh.d
	cat >/etc/mayfly/refresh.d/stamp <<-END
		#!/bin/sh
		set -e
		cd "\$1"
		date +%s%N >etc/stamp
		mkdir -p usr/share/stamp
		for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c \$((i * 3001)) /dev/urandom >usr/share/stamp/\$i; done
		$sums >etc/sums
	END
	chmod 755 /etc/mayfly/refresh.d/stamp
	: >/etc/mayfly/enabled # so that the desktops of the stable tree are listed too, which mounts it
	cat >/etc/mayfly/mayfly.toml <<-END
		[hook]
		timeout = 1200
		[pool]
		image_size = "3G"
		[lvm]
		volume_size = "256M"
		pool_size = "3G"
		cow_size = "32M"
		[update]
		command = ["true"]
		keep = 2
		[admission]
		min_free = "64M"
	END
	(cd /exchange/tree && sh -c "$sums" >etc/sums)
	case $backend in lvm*) set -- --vg vg-test ;; *) set -- ;; esac
	mayfly init --quiet --backend "${backend%-disk}" "$@" --from /exchange/tree
	sync
	say ready
	exit 0
fi

hook() { # start|stop USER DISPLAY
	name=session-setup
	[ "$1" = start ] || name=session-cleanup
	USER=$2 DISPLAY=$3 /clone/hooks/lightdm/$name --quiet
}
whole() { # TREE: whether it holds what was in it when its update ended
	(cd "$1" && sha256sum --quiet -c etc/sums) >/tmp/out 2>&1 || fail "$1 is not whole: $(tail -n 5 /tmp/out)"
}
proven() { for f in /var/lib/mayfly/generations/*.json; do basename "$f" .json; done | sort; }

disks
case $backend in
lvm*) [ "$(lvs --noheadings -S lv_active=active vg-test)" = "" ] || fail "the boot activated something" ;;
esac
mayfly recover --quiet >/tmp/out 2>&1 || fail "recover: $(cat /tmp/out)"
mayfly recover >/tmp/out 2>&1 || fail "a second recover: $(cat /tmp/out)"
mayfly status --json >/tmp/status || fail "status"
grep -q '"healthy": true' /tmp/status || fail "not healthy: $(cat /tmp/status)"
[ -z "$(ls /run/mayfly/sessions)" ] || fail "records are left"
! ls /var/lib/mayfly/generations | grep -E 'candidate|retired|tmp' || fail "generations are unfinished"
case $backend in
lvm*)
	rows=$(lvs --noheadings -o lv_tags vg-test | tr -d ' ' | grep -v '^$' | grep -v ':pool$' | sort)
	want=$(
		{
			echo mayfly:mayfly:master:master
			proven | sed 's/^/mayfly:mayfly:generation:/'
		} | sort
	)
	! dmsetup info -c --noheadings -o name,suspended | grep -i suspended || fail "something is suspended"
	;;
*)
	if [ "$backend" != overlay ]; then
		# The number of a deleted subvolume stays on record until the file system has freed its space.
		btrfs filesystem sync "$pool"
		btrfs subvolume sync "$pool" >/dev/null
		mayfly recover --quiet >/tmp/out 2>&1 || fail "a third recover: $(cat /tmp/out)"
	fi
	rows=$(ls -A "$pool" "$pool/sessions" | grep -vE '^(\.spare-[0-9]+|\.mayfly-pool|CACHEDIR\.TAG|lost\+found)$')$(ls -A "$pool/generations" | sort)
	want="$pool:
generations
master
sessions

$pool/sessions:$(proven)"
	for tree in "$pool"/master "$pool"/generations/*; do whole "$tree"; done
	;;
esac
[ "$rows" = "$want" ] || fail "in the pool: $rows; known: $want"
hook start mayfly-a :0 2>/tmp/out || fail "a login: $(cat /tmp/out)"
id=$(cat /run/mayfly/users/"$(id -u mayfly-a)"/session)
whole "/run/mayfly/roots/$id"
schroot -d / -c "$id" -u mayfly-a -- sh -c 'echo x >/var/tmp/mayfly-x' || fail "inside"
hook stop mayfly-a :0 2>/tmp/out || fail "a logout: $(cat /tmp/out)"
sync
say ready
(
	while :; do
		hook start mayfly-a :0
		hook stop mayfly-a :0
	done >/dev/null 2>&1
) &
(
	while :; do
		hook start mayfly-b :1
		dd if=/dev/urandom of=/run/mayfly/roots/"$(cat /run/mayfly/users/"$(id -u mayfly-b)"/session)"/usr/x bs=64k count=64
		hook stop mayfly-b :1
	done >/dev/null 2>&1
) &
(
	number() { od -An -N2 -tu2 /dev/urandom | tr -d ' '; }
	while :; do
		sleep "0.$(number)"
		date -s "@$(($(date +%s) + $(number) - 32768))"
	done >/dev/null 2>&1
) &
while :; do ! mayfly update --quiet || : >/exchange/updated; done >/dev/null 2>&1
