# The nightly update on machines without systemd. With systemd, mayfly-update.timer runs it.
SHELL=/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin

*/10 * * * * root [ -d /run/systemd/system ] || ! test -x /usr/bin/mayfly || nice ionice -c 3 mayfly update --scheduled --if-due --spread --quiet
