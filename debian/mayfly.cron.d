# The nightly update on machines without systemd. With systemd, mayfly-update.timer runs it.
SHELL=/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin

*/10 * * * * root [ -d /run/systemd/system ] || ! test -x /usr/bin/mayfly || nice ionice -t -c 3 mayfly update --scheduled --if-due --spread --quiet

# No record of a session survives a boot: this finds what a power cut has left, also while people are logged in.
@reboot root [ -d /run/systemd/system ] || ! test -x /usr/bin/mayfly || mayfly recover --quiet
