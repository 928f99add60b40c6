/**
 * The start of a desktop, tried as a whole: the session wrapper, run by the trial user as by a display manager, enters the
 * trial session and runs its Xsession, whose last step is a program of ours in place of the desktop. So what would send
 * users back to the greeter is found before they are.
 *
 * There is no display. Programs of Xsession.d that need one fail at once, which Xsession ignores. A file there that ends
 * the login if it has no display (DISPLAY) fails here, too.
 */
import { SESSION_TYPES } from '../linux/desktop-entry.ts';
import { firstLines, type GenerationCheck, type RunInTrial, sessionPrograms } from './built-in-checks.ts';
import { WRAPPER } from './greeter.ts';

type RunOnHost = (argv: readonly string[]) => ReturnType<RunInTrial>;

/**
 * Makes a home directory for the trial user in the session's own /run, and prints its path. The program in it has
 * ssh-agent end, which would leave its directory in /tmp when it is killed.
 */
const PREPARE = `d=$(mktemp -d /run/mayfly-trial.XXXXXX) || exit
cat >"$d/desktop" <<'END'
echo reached >~/reached
[ -n "$SSH_AGENT_PID" ] || exit 0
ssh-add -l # it answers when it heeds signals
i=0
while [ "$i" -lt 50 ] && kill "$SSH_AGENT_PID"; do sleep 0.1; i=$((i + 1)); done
END
echo "export TMPDIR=$d" >"$d/.xsessionrc"
chown -R "$1:$2" "$d"
echo "$d"`;

/** Prints whether the program was reached, and what Xsession has said. */
const RESULT = 'cat "$1/reached" 2>/dev/null || { tail -n 4 "$1/.xsession-errors" 2>/dev/null; exit 1; }';

/** Throws what `runOnHost` throws, such as when the time of all checks is over. */
export function desktopStarts(runOnHost: RunOnHost): GenerationCheck {
  return {
    name: 'start of a desktop',
    async problem(run, s, { host }) {
      const kinds = [...sessionPrograms(host, s.root).keys()].map(entry => entry.split('/')[0]);
      // A development instance has no wrapper in the system.
      if (!host.exists(WRAPPER)) return undefined;
      for (const kind of SESSION_TYPES.filter(k => kinds.includes(k))) {
        const { name, uid, gid, shell } = s.user;
        const made = await run(['sh', '-c', PREPARE, 'sh', `${uid}`, `${gid}`]);
        const home = made.stdout.trim();
        if (made.code !== 0) return `no home directory for the trial: ${firstLines(made.stderr)}`;
        const ids = [
          'setpriv',
          '--reuid',
          `${uid}`,
          '--regid',
          `${gid}`,
          '--clear-groups',
          '--',
          'env',
          '-i',
        ];
        const variables = { HOME: home, USER: name, LOGNAME: name, SHELL: shell, PATH: '/usr/bin:/bin' };
        const env = Object.entries(variables).map(([key, value]) => `${key}=${value}`);
        const desktop = `/bin/sh ${home}/desktop`;
        const command = kind === 'xsessions' ? ['--xsession', desktop] : desktop.split(' ');
        const { code, stderr } = await runOnHost([...ids, ...env, WRAPPER, '--session', s.id, ...command]);
        const result = await run(['sh', '-c', RESULT, 'sh', home], name); // who could have made links
        if (result.code === 0) continue;
        const said = firstLines(result.stdout) || firstLines(stderr);
        const what = kind === 'xsessions' ? 'for X would not start' : 'for Wayland would not start';
        return `a desktop ${what}: exit code ${code}${said ? `: ${said}` : ''}`;
      }
      return undefined;
    },
  };
}
