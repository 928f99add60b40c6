/** A primary group without a name, with which schroot lets nobody in. */
import { expect, it } from 'vitest';
import { requireGroupName } from '../../src/session/primary-group.ts';
import { login } from '../../src/session/session.ts';
import { entryHint } from '../../src/update/entry-check.ts';
import { callOf, preparedWorld } from '../world.ts';

const user = { name: 'nog', uid: 70003, gid: 85000, gecos: '', home: '/home/nog', shell: '/bin/sh' };
const answering = (stdout: string) =>
  ({ run: async () => ({ code: stdout ? 0 : 2, stdout, stderr: '' }) }) as never;

it.each(['staff:x:85000:\n', 'DOM/users:*:85000:nog\n'])('has a name: %j', async line => {
  await expect(requireGroupName(answering(line), user)).resolves.toBeUndefined();
});

it('is a refusal with its reason, and the command that mends it', async () => {
  await expect(requireGroupName(answering(''), user)).rejects.toMatchObject({
    code: 'refused',
    message:
      'the primary group 85000 of "nog" has no name on this machine, without which schroot lets nobody in',
    facts: { hint: 'groupadd --gid 85000 group85000' },
  });
});

it.each(['Group ‘85000’ not found', "Group '85000' not found: No such file or directory"])(
  'is mended so where schroot says %j',
  why => expect(entryHint(why, 'nog')).toBe('groupadd --gid 85000 group85000'),
);

it.each([
  ['root:x:0:\n', 'refused'],
  ['root:x:0:\nusers:x:1001:\n', undefined],
])('is asked for at a login: with /etc/group %j it is %s', async (text, code) => {
  const w = preparedWorld();
  w.put('/etc/group', text);
  w.programs.getent = () => ({ code: 2 });
  const begun = login(w.machine(), callOf(w, 'alice', ':0'));
  if (code === undefined) expect((await begun)?.state).toBe('live');
  else await expect(begun).rejects.toMatchObject({ code });
});
