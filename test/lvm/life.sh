#!/bin/sh
# In user-mode Linux, after each boot: recovers, looks whether all is sound, says so, and then lives until the power
# is cut: logins, logouts and updates. The first time (with a backend's name) it makes the pool instead.
set -eu
mayfly() { node /clone/dist/mayfly.cjs "$@"; }
say() { echo "$*" >>/exchange/said; }
fail() {
	say "FAILED: $*"
	exit 1
}

if [ $# -gt 0 ]; then
	vgcreate -q vg-test /dev/ubdb
	useradd -m -s /bin/sh mayfly-a
	useradd -m -s /bin/sh mayfly-b
	mkdir -p /etc/mayfly/refresh.d
	printf '#!/bin/sh\ndate +%%s%%N >"$1/etc/stamp"\n' >/etc/mayfly/refresh.d/stamp
	chmod 755 /etc/mayfly/refresh.d/stamp
	: >/etc/mayfly/enabled # so that the desktops of the stable tree are listed too, which mounts it
	cat >/etc/mayfly/mayfly.toml <<-END
		[hook]
		timeout = 1200
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
	mayfly init --quiet --backend "$1" --vg vg-test --from /exchange/tree
	sync
	say ready
	exit 0
fi

hook() { # start|stop USER DISPLAY
	name=session-setup
	[ "$1" = start ] || name=session-cleanup
	USER=$2 DISPLAY=$3 /clone/hooks/lightdm/$name --quiet
}

[ "$(lvs --noheadings -S lv_active=active vg-test)" = "" ] || fail "the boot activated something"
mayfly recover --quiet >/tmp/out 2>&1 || fail "recover: $(cat /tmp/out)"
mayfly recover >/tmp/out 2>&1 || fail "a second recover: $(cat /tmp/out)"
mayfly status --json >/tmp/status || fail "status"
grep -q '"healthy": true' /tmp/status || fail "not healthy: $(cat /tmp/status)"
[ -z "$(ls /var/lib/mayfly/sessions)" ] || fail "records are left"
! ls /var/lib/mayfly/generations | grep -E 'candidate|retired|tmp' || fail "generations are unfinished"
rows=$(lvs --noheadings -o lv_tags vg-test | tr -d ' ' | grep -v '^$' | grep -v ':pool$' | sort)
want=$(
	{
		echo mayfly:mayfly:master:master
		for f in /var/lib/mayfly/generations/*.json; do
			echo "mayfly:mayfly:generation:$(basename "$f" .json)"
		done
	} | sort
)
[ "$rows" = "$want" ] || fail "in the pool: $rows; known: $want"
! dmsetup info -c --noheadings -o name,suspended | grep -i suspended || fail "something is suspended"
hook start mayfly-a :0 2>/tmp/out || fail "a login: $(cat /tmp/out)"
id=$(cat /run/mayfly/users/"$(id -u mayfly-a)"/session)
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
while :; do mayfly update --quiet; done >/dev/null 2>&1
