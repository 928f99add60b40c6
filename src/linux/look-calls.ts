/** For `process-look.ts`: the numbers of statx(2), setns(2) and clock_gettime(2), by Node's name of the architecture. */
export const LOOK_CALLS: Readonly<Record<string, readonly [number, number, number]>> = {
  x64: [332, 308, 228],
  arm64: [291, 268, 113],
  riscv64: [291, 268, 113],
  loong64: [291, 268, 113],
  arm: [397, 375, 263],
  ia32: [383, 346, 265],
  ppc64: [383, 350, 246],
  s390x: [379, 339, 260],
  mips64el: [5326, 5303, 5222],
};
