# What units of systemd do where it runs: remove at boot what a power cut has left, and run the nightly update. Where the
# priority for the disk cannot be set, as in some containers, the update runs with its own.
SHELL=/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin

@reboot root [ -d /run/systemd/system ] || ! test -x /usr/bin/mayfly || mayfly recover --quiet
*/10 * * * * root [ -d /run/systemd/system ] || ! test -x /usr/bin/mayfly || nice ionice -t -c 3 mayfly update --scheduled --if-due --spread --quiet
