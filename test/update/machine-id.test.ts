/** What identifies a machine in a tree that is about to be sealed. */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it, onTestFinished } from 'vitest';
import { realHost } from '../../src/linux/real-host.ts';
import { forgetMachineId } from '../../src/update/machine-id.ts';

it.each([
  ['an ID', 'echo 1 >etc/machine-id', '', undefined],
  ['no file', 'true', '', undefined],
  ['a symlink to elsewhere', 'ln -s ../victim etc/machine-id', '', undefined],
  ['an ID for D-Bus', 'mkdir -p var/lib/dbus; echo 1 >var/lib/dbus/machine-id', '', '/etc/machine-id'],
  ['the directory of D-Bus', 'mkdir -p var/lib/dbus', '', '/etc/machine-id'],
  [
    'a symlink for D-Bus',
    'mkdir -p var/lib/dbus; ln -s ../../../victim var/lib/dbus/machine-id',
    '',
    '/etc/machine-id',
  ],
  [
    'a directory of D-Bus that is elsewhere',
    'mkdir var var/lib; ln -s ../../out var/lib/dbus',
    '',
    undefined,
  ],
])('of a tree with %s is not sealed', (_what, script, id, link) => {
  const tree = fs.mkdtempSync(`${tmpdir()}/mayfly-id-`);
  onTestFinished(() => fs.rmSync(tree, { recursive: true }));
  const host = realHost();
  for (const name of ['etc', 'out']) fs.mkdirSync(`${tree}/${name}`);
  fs.writeFileSync(`${tree}/victim`, 'mine');
  return host.run({ file: 'sh', args: ['-c', `cd ${tree}; ${script}`], effect: 'write' }).then(() => {
    forgetMachineId(host, tree);
    expect(fs.readFileSync(`${tree}/etc/machine-id`, 'utf8')).toBe(id);
    expect(fs.lstatSync(`${tree}/etc/machine-id`).mode & 0o7777).toBe(0o444);
    expect(host.readlink(`${tree}/var/lib/dbus/machine-id`)).toBe(link);
    expect(fs.readFileSync(`${tree}/victim`, 'utf8')).toBe('mine');
    expect(fs.readdirSync(`${tree}/out`)).toEqual([]);
  });
});
