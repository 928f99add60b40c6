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

  /** Switches it on. */
  abstract boot(): Promise<void>;

  /** Switches it off the orderly way, or pulls the plug. */
  abstract off(how?: 'orderly' | 'plug'): Promise<void>;

  /** Keeps what the screen shows, for people to look at. */
  abstract shot(name: string): void;

  /** A command that must succeed; returns what it printed. */
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
      `cd /run/mayfly/sessions 2>/dev/null && ls | grep "^u$(id -u ${name})-" || true`,
    );
    return files.split('\n').flatMap(n => /^(.*)\.json$/.exec(n)?.[1] ?? []);
  }

  /**
   * Every process of a person: its program and its root directory, as the machine sees them. In a mount namespace of its
   * own the root has no path here, so directories are compared.
   */
  processes(name: string): { readonly pid: number; readonly program: string; readonly root: string }[] {
    const lines = this.script(`for pid in $(pgrep -u ${name}); do
      at=$(readlink /proc/$pid/root) || continue
      for root in /run/mayfly/roots/u*; do
        if [ /proc/$pid/root -ef $root ]; then at=$root; fi
      done
      if [ $at = / ] && ! [ /proc/$pid/root -ef / ]; then at=elsewhere; fi
      echo "$pid $(cat /proc/$pid/comm) $at"
    done`);
    return lines
      .trim()
      .split('\n')
      .filter(Boolean)
      .flatMap(line => {
        const [, pid, program, root] = /^(\d+) (.*) (\S+)$/.exec(line) ?? [];
        return root === undefined ? [] : [{ pid: Number(pid), program: program ?? '', root }];
      });
  }

  /** What of /etc is not ours: paths, modes, owners and contents. */
  configuration(): string {
    const all = 'find . -path ./mayfly -prune -o';
    return this.script(
      `cd /etc; ${all} -printf "%p %M %u %g %l\\n" | sort; ${all} -type f -exec sha256sum {} + | sort`,
    );
  }
}
