/** What names and sizes look like, in the configuration and on the command line. */

/** Bytes: "512M", "10G". */
export const SIZE = /^\d+(\.\d+)?[KMGT]?$/;
/** Of a volume group or a volume (lvm(8)). */
export const LVM_NAME = /^[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,59}$/;
/** Of Debian's packages. */
export const PACKAGE_NAME = /^[a-z0-9][a-z0-9+.-]+$/;
/** Of Debian's releases. */
export const RELEASE = /^[a-z][a-z0-9.-]*$/;
