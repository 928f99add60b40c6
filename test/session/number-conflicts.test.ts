/** A login of a user whose numbers a generation gives to others: accounts and groups that are newer than it. */
import { expect, it } from 'vitest';
import { OWNERSHIP_PROGRAM } from '../../src/linux/ownership.ts';
import { login } from '../../src/session/session.ts';
import { readGeneration, writeGeneration } from '../../src/state/generations.ts';
import type { UnnamedNumbers } from '../../src/state/owners.ts';
import { callOf, preparedWorld } from '../world.ts';

interface Files {
  readonly passwd?: string;
  readonly group?: string;
  readonly unnamed?: UnnamedNumbers;
}

/** Logs alice (1001, also in audio) in; returns what was asked of the program, and her session's files. */
async function loginTo({ passwd = '', group = '', unnamed }: Files) {
  const w = preparedWorld();
  const on = w.machine();
  const nodes = w.volumes.get('/var/lib/mayfly/pool/generation/1')?.nodes;
  const add = (path: string, text: string): void => {
    const node = nodes?.get(path);
    if (node) nodes?.set(path, { ...node, text: node.text + text });
  };
  add('/etc/passwd', passwd);
  add('/etc/group', group);
  const g = readGeneration(w.host, on.paths, 1);
  if (g && unnamed) writeGeneration(w.host, on.paths, { ...g, unnamed }, 'proven');
  const asked: string[] = [];
  const { perl } = w.programs;
  w.programs.perl = args => {
    if (args[1] !== OWNERSHIP_PROGRAM) return perl?.(args);
    const [, , mode = '', tree = ''] = args.slice(args.indexOf('--') + 1);
    asked.push(`${mode} ${tree.replace(/.*\/u1001-\w+/, '')}`.trim());
    return {};
  };
  const s = await login(on, callOf(w, 'alice', ':0'));
  const read = (name: string): string => w.host.read(`${s?.root}/etc/${name}`) ?? '';
  return { asked, passwd: read('passwd'), group: read('group') };
}

/** On record for the first login: all files. Then the tree, and what a boot creates in /run. */
const SEPARATED = ['survey', 'apply', 'apply /run'];

it('costs nothing if there are none', async () => {
  const { asked } = await loginTo({ passwd: 'image:x:1002:1001::/:\n', group: 'cert:x:2000:\n' });
  expect(asked).toEqual([]);
});

it.each<[string, Files, string, string]>([
  ['of a user', { passwd: 'image:x:1001:7::/:\n' }, 'image:x:59999:7::/:', 'alice:x:1001:'],
  ['of a group', { group: 'cert:x:1001:bob\n' }, 'alice:x:1001:1001:', 'cert:x:59999:bob'],
  [
    'in an account file',
    { passwd: 'image:x:5:1001::/:\n', group: 'cert:x:1001:\n' },
    'image:x:5:59999',
    'cert',
  ],
])('gives others their own number: %s', async (_what, files, passwd, group) => {
  const after = await loginTo(files);
  expect(after.asked).toEqual(SEPARATED);
  expect(after.passwd).toContain(`\n${passwd}`);
  expect(after.group).toContain(`\n${group}`);
  expect(after.group).toContain('\nalice:x:1001:');
});

it.each<[string, UnnamedNumbers, readonly string[]]>([
  ['of nobody', { users: { 1001: '' }, groups: {} }, SEPARATED],
  ['of a group', { users: {}, groups: { 1001: '' } }, SEPARATED],
  ['that are the user’s', { users: { 1001: 'alice' }, groups: { 1001: 'alice' } }, []],
  ['that were somebody else’s', { users: { 1001: 'carol' }, groups: {} }, SEPARATED],
  ['of others', { users: { 1002: '' }, groups: { 29: 'audio' } }, []],
])('separates files without a name %s', async (_what, unnamed, expected) => {
  const after = await loginTo({ unnamed });
  expect(after.asked).toEqual(expected);
});
