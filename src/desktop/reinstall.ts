/** The commands that bring the package's files back. One that was installed from a file of ours is in no archive of apt. */

const FROM_FILE = '# or ./FILE.deb, where it came as a file';

export const REINSTALL = `apt install --reinstall mayfly ${FROM_FILE}`;

/** With what PAM is told by, too. */
export const REINSTALL_PAM = `apt install --reinstall libpam-runtime mayfly ${FROM_FILE}`;

/** dpkg does not bring back a configuration file that was removed, unless it is told to. */
export const BRING_BACK = `apt install --reinstall -o Dpkg::Options::=--force-confmiss mayfly ${FROM_FILE}`;
