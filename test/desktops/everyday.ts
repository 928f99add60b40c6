/**
 * The machine on which people do what they do every day: a printer, a shared folder, groups, a language, a ssh server, and
 * an administrator who does what is asked through a pipe, such as to stick something in.
 */
import * as fs from 'node:fs';
import type { Machine } from '../desktop/machine.ts';
import type { Person } from '../desktop/workstation.ts';

const SHARED = '/home/shared';

/** A service of root on the host: does what a word in a pipe says, and answers in another. */
const ADMIN = `#!/bin/sh
while read -r word <${SHARED}/admin; do
	case $word in
	password) echo alice:changed | chpasswd ;;
	old-password) echo alice:wonder | chpasswd ;;
	stick) mkdir -p /media/stick && mount -t tmpfs stick /media/stick && echo hello >/media/stick/letter && chmod -R a+rX /media/stick ;;
	unstick) umount /media/stick ;;
	newcomer) useradd -M newcomer ;;
	printer) systemctl restart cups.service ;;
	esac
	echo $? >${SHARED}/answer
done
`;

const ADMIN_UNIT = `[Service]
ExecStart=/usr/local/sbin/bench-admin
Restart=always
[Install]
WantedBy=multi-user.target
`;

/** Asks for a word; fails where it fails. */
const ASK = `#!/bin/sh
timeout 20 sh -c 'echo "$1" >${SHARED}/admin; read -r code <${SHARED}/answer; exit "$code"' ask "$1"
`;

/** Runs what is in a file system in a file, as an AppImage does. */
const APP_IMAGE = `#!/bin/sh
at=$(mktemp -d) || exit
squashfuse /usr/local/share/bench/app.squashfs "$at" || exit
"$at/AppRun"
code=$?
fusermount -u "$at"
exit $code
`;

/** A service of the person that needs a second to save its work. */
const SLOW_SAVER = `#!/bin/sh
trap 'sleep 1; echo saved >"$HOME/saved-$1"; exit' TERM
while :; do sleep 0.1; done
`;

/** The rows of what was saved at the logout, with the files in the home directory that show it. */
export const SAVED: Readonly<Record<string, string>> = {
  'what the service has saved at logout': 'saved-service',
  'what the ExecStop has saved at logout': 'saved-stop',
};

/** Before Mayfly takes the machine's files for the first generation. */
export function makeEveryday(lab: Machine): void {
  const files: Readonly<Record<string, [text: string, mode?: number]>> = {
    '/usr/local/sbin/bench-admin': [ADMIN, 0o755],
    '/usr/local/bin/bench-ask': [ASK, 0o755],
    '/usr/local/bin/bench-app-image': [APP_IMAGE, 0o755],
    '/usr/local/bin/bench-saver': [SLOW_SAVER, 0o755],
    '/etc/systemd/system/bench-admin.service': [ADMIN_UNIT],
    '/etc/default/locale': ['LANG=en_GB.UTF-8\n'],
    '/etc/security/limits.d/bench.conf': ['* soft nofile 4321\n'],
    '/etc/tmpfiles.d/bench.conf': [
      'c /dev/kvm 0660 root kvm - 10:232\nc /dev/ttyS9 0660 root dialout - 4:73\n',
    ],
  };
  for (const [path, [text, mode]] of Object.entries(files))
    fs.writeFileSync(lab.at(path), text, { mode: mode ?? 0o644 });
  fs.appendFileSync(lab.at('/etc/environment'), 'BENCH_SITE=laboratory\n');
  fs.appendFileSync(lab.at('/etc/fstab'), `scratch ${SHARED}/scratch tmpfs noauto,user,size=1m 0 0\n`);
  lab.script(`
    localedef -i en_GB -f UTF-8 en_GB.UTF-8
    groupadd -g 7702 robotics; groupadd -f -r wireshark; groupadd -f -r kvm
    chgrp wireshark /usr/bin/dumpcap; chmod 0750 /usr/bin/dumpcap; setcap cap_net_raw,cap_net_admin=eip /usr/bin/dumpcap
    setcap cap_net_raw=ep /usr/bin/ping # the machine was unpacked without
    im-config -n ibus
    systemd-tmpfiles --create bench.conf
    mkdir -p ${SHARED}/scratch; chgrp robotics ${SHARED}; chmod 2775 ${SHARED}; chown root:root ${SHARED}/scratch
    echo plans >${SHARED}/plans; chown bob:robotics ${SHARED}/plans; chmod 0640 ${SHARED}/plans
    mkfifo -m 0666 ${SHARED}/admin ${SHARED}/answer
    for group in robotics wireshark kvm dialout sudo; do gpasswd -a alice $group >/dev/null; done
    systemctl daemon-reload; systemctl --quiet enable --now bench-admin.service ssh.service cron.service atd.service cups.service
    echo 'FileDevice Yes' >>/etc/cups/cups-files.conf; systemctl restart cups.service
    lpadmin -p bench -E -v file:/dev/null -m raw 2>/dev/null
    cd /usr/local/share/bench; mkdir -p app-image; printf '#!/bin/sh\\necho runs\\n' >app-image/AppRun; chmod +x app-image/AppRun
    mksquashfs app-image app.squashfs -quiet -no-progress >/dev/null`);
}

/** A home directory as of a new account, with a key that opens the way to the machine itself. */
export function freshHome(lab: Machine, { name, password }: Person): void {
  lab.script(`
    rm -rf --one-file-system /home/${name}; cp -r /etc/skel /home/${name}; chmod 0755 /home/${name}
    mkdir -m 0700 /home/${name}/.ssh; cd /home/${name}/.ssh
    ssh-keygen -q -t ed25519 -N '' -f id_ed25519; cp id_ed25519.pub authorized_keys
    printf 'StrictHostKeyChecking no\\nUserKnownHostsFile /dev/null\\nLogLevel ERROR\\n' >config
    chown -R ${name}: /home/${name}
    echo ${name}:${password} | chpasswd; usermod -s /bin/bash ${name}; userdel newcomer 2>/dev/null || true; crontab -r -u ${name} 2>/dev/null || true
    for job in $(atq | cut -f1); do atrm $job; done`);
}
