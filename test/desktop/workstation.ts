/** A lab workstation as a test sees it, in a container or a virtual machine: commands as root, and what people run. */
import type { Ran } from '../system/lab.ts';

export const ARTEFACTS = 'test/artefacts';

export interface Person {
  readonly name: string;
  readonly password: string;
}

export abstract class Workstation {
  /** A command in the machine, as root. Never throws, and never waits for ever. */
  abstract run(...command: string[]): Ran;

  /** The same, which must succeed; returns what it printed. */
  must(...command: string[]): string {
    const r = this.run(...command);
    if (r.code !== 0) {
      const journal = this.run('journalctl', '--no-pager', '-n', '40').out;
      throw new Error(`${command.join(' ')}: exit code ${r.code}: ${r.out}${r.err}\n${journal}`);
    }
    return r.out;
  }

  script(text: string): string {
    return this.must('sh', '-euc', text);
  }

  /** Ids of a person's sessions on record. */
  sessions(name: string): string[] {
    const files = this.script(
      `cd /var/lib/mayfly/sessions 2>/dev/null && ls | grep "^u$(id -u ${name})-" || true`,
    );
    return files.split('\n').flatMap(n => /^(.*)\.json$/.exec(n)?.[1] ?? []);
  }

  /** Every process of a person: its program and its root directory, as the machine sees them. */
  processes(name: string): { readonly pid: number; readonly program: string; readonly root: string }[] {
    const lines = this.script(
      `for pid in $(pgrep -u ${name}); do echo "$pid $(cat /proc/$pid/comm) $(readlink /proc/$pid/root)"; done`,
    );
    return lines
      .trim()
      .split('\n')
      .filter(Boolean)
      .flatMap(line => {
        const [, pid, program, root] = /^(\d+) (.*) (\S+)$/.exec(line) ?? [];
        return root === undefined ? [] : [{ pid: Number(pid), program: program ?? '', root }];
      });
  }

  /**
   * What is left anywhere of a person's sessions, a line each: mounts, records, volumes, schroot entries, processes of
   * whoever it may be. Nothing, after a logout.
   */
  leftOf(name: string): string[] {
    const all = this.script(`
      u=u$(id -u ${name})-
      set +e # grep finds nothing
      grep -o " /run/mayfly/roots/$u[^ ]*" /proc/1/mountinfo
      cd /var/lib/mayfly; find sessions pool/sessions /etc/schroot/chroot.d -maxdepth 1 -name "*$u*"
      ls -l /proc/[0-9]*/root 2>/dev/null | grep -o " /proc/[0-9]*/root.*/mayfly/roots/$u.*"
      true`);
    return all.split('\n').filter(Boolean);
  }

  /**
   * Does `act` and waits for the end of a person's session; returns how many seconds after logind took its session
   * for over the record was gone. Both are looked at ten times a second, on the machine.
   */
  endsBy(act: string, name: string): number {
    const out = this.script(`
      uid=$(id -u ${name})
      now() { date +%s%N; }
      known() {
        for f in /run/systemd/sessions/*; do
          case $f in *.ref) continue ;; esac
          grep -qsx "UID=$uid" "$f" && grep -qsE '^STATE=(active|online|opening)' "$f" && return 0
        done
        return 1
      }
      gone= ; (${act}) >/dev/null 2>&1 </dev/null
      i=0
      while [ $i -lt 300 ]; do
        i=$((i + 1))
        [ -n "$gone" ] || known || gone=$(now)
        if [ -n "$gone" ] && ! ls /var/lib/mayfly/sessions/u$uid-*.json >/dev/null 2>&1; then
          echo $((($(now) - gone) / 1000000))
          exit
        fi
        sleep 0.1
      done
      echo "logind: $gone" >&2; exit 1`);
    return Number(out) / 1000;
  }
}
