/** Accounts from the network: what /etc/passwd does not know is asked of NSS, with getent(1). */
import { describe, expect, it } from 'vitest';
import { groupsOf, lookupUser } from '../../src/linux/accounts.ts';
import type { Command } from '../../src/linux/command.ts';
import type { Host } from '../../src/linux/host.ts';
import { World } from '../world.ts';

/** A host whose NSS knows dave of the domain, in two groups of it and one of the machine. */
function networked(): { host: Host; asked: string[] } {
  const world = new World();
  world.put('/etc/nsswitch.conf', 'passwd: files sss\ngroup: files sss\n');
  const asked: string[] = [];
  const answers: Record<string, string> = {
    'passwd dave@lab.example': 'dave@lab.example:*:70001:70000:Dave:/home/dave:/bin/bash\n',
    'initgroups dave@lab.example': 'dave@lab.example      70000 70010 29\n',
    'group 70000': 'students@lab.example:*:70000:\n',
    'group 70010': 'robotics@lab.example:*:70010:dave@lab.example,erin@lab.example\n',
  };
  const run = async (c: Command) => {
    const key = c.args.slice(1).join(' ');
    asked.push(key);
    const stdout = answers[key];
    return stdout === undefined ? { code: 2, stdout: '', stderr: '' } : { code: 0, stdout, stderr: '' };
  };
  return { host: { ...world.host, run }, asked };
}

describe('an account from the network', () => {
  it('is found with its number, home and shell', async () => {
    const { host } = networked();
    expect(await lookupUser(host, 'dave@lab.example')).toMatchObject({
      uid: 70001,
      gid: 70000,
      home: '/home/dave',
      shell: '/bin/bash',
    });
  });
  it('has the groups NSS says, the machine’s among them, and nobody else’s names', async () => {
    const { host } = networked();
    const groups = await groupsOf(host, await lookupUser(host, 'dave@lab.example'));
    expect(groups).toEqual([
      { name: 'students@lab.example', gid: 70000, members: [] },
      { name: 'robotics@lab.example', gid: 70010, members: [] },
      { name: 'audio', gid: 29, members: [] },
    ]);
  });
  it('is not asked for where the machine knows the account itself', async () => {
    const { host, asked } = networked();
    expect((await lookupUser(host, 'alice')).uid).toBe(1001);
    expect(asked).toEqual([]);
  });
  it('that nobody knows is refused by name', async () => {
    const { host } = networked();
    await expect(lookupUser(host, 'mallory@lab.example')).rejects.toMatchObject({ code: 'unknown-user' });
  });
  it('with a name that could be an option is not even asked for', async () => {
    const { host, asked } = networked();
    await expect(lookupUser(host, '--version')).rejects.toMatchObject({ code: 'bad-user' });
    expect(asked).toEqual([]);
  });
});
