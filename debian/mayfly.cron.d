# The nightly update where there is no systemd; where there is, mayfly-update.timer does it.
SHELL=/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin

*/10 * * * * root [ -d /run/systemd/system ] || ! test -x /usr/bin/mayfly || mayfly update --scheduled --if-due --quiet
