/** The variables of PAM on a whole machine: every program that starts with them leaves a file with its owner's name. */
import type { Person, Workstation } from './workstation.ts';

const DIRECTORY = '/var/tmp/variables';

/** The loader writes a file for each program, also if it fails; set-user-ID programs ignore this. */
const VARIABLES = {
  LD_DEBUG: 'statistics',
  LD_DEBUG_OUTPUT: `${DIRECTORY}/proofs/loader`,
  ENV: `${DIRECTORY}/shell`,
  BASH_ENV: `${DIRECTORY}/shell`,
  PERL5OPT: '-MEvil',
  PERL5LIB: DIRECTORY,
  NODE_OPTIONS: `--require=${DIRECTORY}/evil.cjs`,
};

/** As lines, for a greeter that sets them. */
export const GREETER_VARIABLES = Object.entries(VARIABLES).map(([name, value]) => `${name}=${value}`);

/** Makes what the variables name, and forgets who has started programs with them before. */
export function prepareVariables(lab: Workstation): void {
  lab.script(`
    rm -rf ${DIRECTORY}; mkdir ${DIRECTORY}; install -d -m 1777 ${DIRECTORY}/proofs; cd ${DIRECTORY}
    echo 'echo >${DIRECTORY}/proofs/shell.$$' >shell
    echo 'require("fs").writeFileSync("${DIRECTORY}/proofs/node." + process.pid, "")' >evil.cjs
    echo 'BEGIN { open F, ">", "${DIRECTORY}/proofs/perl.$$" } 1;' >Evil.pm`);
}

/** Who has started programs with them, each once. */
export function startedWithVariables(lab: Workstation): string[] {
  return lab
    .script(`find ${DIRECTORY}/proofs -type f -printf '%u\\n' | sort -u`)
    .trim()
    .split('\n')
    .filter(Boolean);
}

/**
 * Does `act` while the person sets the variables in all stacks of PAM, before any other module has its turn: that of the
 * display manager, of systemd's service manager and of schroot.
 */
export async function withVariables(
  lab: Workstation,
  { name }: Person,
  act: () => Promise<void>,
): Promise<void> {
  prepareVariables(lab);
  lab.script(`
    cd /etc/pam.d
    for stack in common-session common-session-noninteractive; do
      cp -a $stack ${DIRECTORY}
      sed -i '1i session optional pam_env.so user_readenv=1' $stack
    done
    printf '%s\\n' ${GREETER_VARIABLES.map(line => `'${line.replace('=', ' DEFAULT=')}'`).join(' ')} >/home/${name}/.pam_environment
    chown ${name}: /home/${name}/.pam_environment`);
  try {
    await act();
  } finally {
    lab.script(`rm /home/${name}/.pam_environment; cp -a ${DIRECTORY}/common-session* /etc/pam.d`);
  }
}
