/**
 * The commands that restore the package's files. A package that was installed from a .deb file is in no archive, so apt
 * needs the file again.
 */

const FROM_FILE = '# or ./FILE.deb, if it was installed from a file';

export const REINSTALL = `apt install --reinstall mayfly ${FROM_FILE}`;

/** Also restores pam-auth-update(8). */
export const REINSTALL_PAM = `apt install --reinstall libpam-runtime mayfly ${FROM_FILE}`;

/** Without this option, dpkg does not restore a conffile that was removed. */
export const BRING_BACK = `apt install --reinstall -o Dpkg::Options::=--force-confmiss mayfly ${FROM_FILE}`;
