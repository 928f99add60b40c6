/** Logins typed at sddm's greeter. */
import * as fs from 'node:fs';
import type { Machine } from '../desktop/machine.ts';
import type { Person } from '../desktop/workstation.ts';
import { until } from '../system/lab.ts';

/** sddm has the X server choose its display and say which; Xvfb does, but is to be found by it. */
const X_SERVER = `#!/bin/sh
auth= fd=
while [ $# -gt 0 ]; do
	case $1 in
	-auth) auth=$2; shift ;;
	-displayfd) fd=$2; shift ;;
	esac
	shift
done
exec Xvfb :0 -auth "$auth" -displayfd "$fd" -noreset -screen 0 1024x768x24 -nolisten tcp
`;

/**
 * sddm waits for a seat with a graphics card, which a container has none of: udev's database, as logind reads it when it
 * starts, calls /dev/null one.
 */
const SEAT = `[Service]
ExecStartPre=+/bin/sh -c 'mkdir -p /run/udev/data /run/udev/tags/seat /run/udev/tags/master-of-seat; \
  printf "I:1\\nG:seat\\nG:master-of-seat\\nQ:seat\\nQ:master-of-seat\\nV:1\\n" >/run/udev/data/c1:3; \
  touch /run/udev/tags/seat/c1:3 /run/udev/tags/master-of-seat/c1:3'
`;

export function configureSddm(lab: Machine): void {
  const write = (path: string, text: string, mode = 0o644): void => {
    fs.mkdirSync(lab.at(path).replace(/\/[^/]*$/, ''), { recursive: true });
    fs.writeFileSync(lab.at(path), text, { mode });
  };
  write('/usr/local/bin/sddm-x-server', X_SERVER, 0o755);
  write('/etc/sddm.conf.d/10-bench.conf', '[X11]\nServerPath=/usr/local/bin/sddm-x-server\n');
  // /etc/environment says that there is no virtual terminal; it counts when logind is asked for a session.
  for (const path of ['/etc/pam.d/sddm', '/etc/pam.d/sddm-greeter']) {
    const early = 'session optional pam_env.so\n@include common-session\n';
    write(path, fs.readFileSync(lab.at(path), 'utf8').replace('@include common-session\n', early));
  }
  write('/etc/systemd/system/systemd-logind.service.d/bench.conf', SEAT);
}

/** Types the password at a greeter that has this person and LXQt chosen, as after an earlier login of theirs. */
export async function typeAtSddm(lab: Machine, { name, password }: Person): Promise<void> {
  const last = `[Last]\nSession=/usr/share/xsessions/lxqt.desktop\nUser=${name}\n`;
  lab.must('systemctl', 'stop', 'sddm');
  fs.writeFileSync(lab.at('/var/lib/sddm/state.conf'), last);
  lab.must('systemctl', 'start', 'sddm');
  const shown = ['xdotool', 'search', '--onlyvisible', '--class', 'sddm'];
  await until(() => lab.run('pgrep', '-f', 'sddm-greete[r]').code === 0, 60_000);
  await until(() => lab.x(...shown).out !== '', 60_000);
  await lab.settle();
  lab.shot(`sddm-greeter-${name}`);
  lab.keys(password);
}
