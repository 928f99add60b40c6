/** Logins typed at sddm's greeter. */
import * as fs from 'node:fs';
import type { Machine } from '../desktop/machine.ts';
import type { Person } from '../desktop/workstation.ts';

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
  write('/etc/systemd/system/systemd-logind.service.d/bench.conf', SEAT);
}

export async function typeAtSddm(lab: Machine, { name, password }: Person): Promise<void> {
  lab.keys(name);
  lab.keys(password);
}
