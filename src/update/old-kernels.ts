/** Kernels in the copy that a newer one has replaced. Each has hundreds of megabytes, and no session needs them. */

/** Packages of a certain kernel version: what Debian and Ubuntu build for each. */
const KERNEL =
  /^(linux-(image|image-unsigned|headers|modules|modules-extra|image-extra|objects|signatures|tools|cloud-tools|buildinfo|kbuild|hwe-\d[\w.-]*-(tools|headers|cloud-tools))|nvidia-kernel|linux-\w+(-\w+)*-(headers|tools|cloud-tools))-\d/;

/**
 * The packages of kernels among those that `apt-get --simulate autoremove` would remove, without what must stay. Apt keeps
 * the newest ones, the one that runs, and whatever the administrator has asked for. Pure.
 */
export function oldKernels(removable: readonly string[], keep: ReadonlySet<string>): string[] {
  return removable.filter(name => KERNEL.test(name) && !keep.has(name));
}
