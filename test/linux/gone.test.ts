/** Reading a file that is just being removed. On a real control group; needs root. */
import { closeSync, mkdirSync, openSync, readFileSync, rmdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { hierarchy } from '../../src/linux/cgroup.ts';
import { realHost } from '../../src/linux/real-host.ts';

const host = realHost();
const root = process.getuid?.() === 0 ? hierarchy(host) : undefined;

describe.skipIf(root === undefined)('a control group that is removed while its file is read', () => {
  it('is absent', () => {
    const group = `${root}/mayfly-gone-${process.pid}`;
    mkdirSync(group);
    const fd = openSync(`${group}/cgroup.procs`, 'r');
    try {
      rmdirSync(group);
      const path = `/proc/self/fd/${fd}`;
      expect(() => readFileSync(path)).toThrow(/^ENODEV/);
      expect(host.read(path)).toBeUndefined();
    } finally {
      closeSync(fd);
    }
  });
});
