/** Which configuration files an update has kept or replaced, from what dpkg(1) and ucf(1) leave beside them. */
import { expect, it } from 'vitest';
import { describeKept } from '../../src/update/kept-files.ts';

it.each([
  ['/etc/a.conf.dpkg-dist', true, '"/etc/a.conf" is kept as it is; the new one of its package is "/etc/a.conf.dpkg-dist"'],
  ['/etc/a.conf.ucf-dist', true, '"/etc/a.conf" is kept as it is; the new one of its package is "/etc/a.conf.ucf-dist"'],
  ['/etc/a.conf.dpkg-dist', false, '"/etc/a.conf" stays deleted; the new one of its package is "/etc/a.conf.dpkg-dist"'],
  ['/etc/a.conf.dpkg-old', true, '"/etc/a.conf" was replaced by the one of its package; the one before is "/etc/a.conf.dpkg-old"'],
  ['/etc/a.conf.ucf-old', true, '"/etc/a.conf" was replaced by the one of its package; the one before is "/etc/a.conf.ucf-old"'],
  ['/etc/a.conf.dpkg-bak', false, '"/etc/a.conf" is no longer used by its package; it is kept as "/etc/a.conf.dpkg-bak"'],
])('%s, with the file itself: %s', (path, isThere, said) => {
  expect(describeKept([path], () => isThere)).toEqual([said]);
}); // biome-ignore format: a line each

it('names no more than people read', () => {
  const paths = Array.from({ length: 300 }, (_, i) => `/etc/${i}.dpkg-dist`);
  const said = describeKept(paths, () => true);
  expect(said).toHaveLength(21);
  expect(said.at(-1)).toBe('280 more configuration files were kept or replaced');
});
