/** Users and groups of the host and of the image that have the same numbers, or the same names. */
import { expect } from 'vitest';
import { type Lab, must, type Ran, readAt, sh, uidOf } from './lab.ts';
import { stable } from './updates.ts';

/** Numbers of groups; the host and the image give them to different names. */
const [ROBOTICS, SHARK, NOBODYS, LATE] = [7702, 7801, 7803, 7950];

/** What a master of other origin may contain; `$uid` is the number of the person. */
const IMAGE = `set -e
groupadd -g ${ROBOTICS} mayfly-cert
groupadd -g 7900 mayfly-shark
useradd -o -u $uid -g mayfly-cert -M mayfly-image
cd /usr/local
echo secret >key; chown root:mayfly-cert key; chmod 640 key
cp /usr/bin/id shark; chown root:mayfly-shark shark; chmod 2750 shark
echo secret >theirs; chown mayfly-image: theirs; chmod 600 theirs
echo secret >unnamed; chown 0:${NOBODYS} unnamed; chmod 640 unnamed
echo secret >subordinate; chown 100500:100500 subordinate; chmod 600 subordinate
mkdir shared; chown root:mayfly-shark shared; chmod 2770 shared; touch -d @1000000000 shared/old`;

/** Makes an image and groups of the host, and sees what the person `name` may do with the files. */
export function sameNameSameRights(lab: Lab, name: string): void {
  const groups = { 'mayfly-robotics': ROBOTICS, 'mayfly-shark': SHARK, 'mayfly-other': NOBODYS };
  const made = new Set<string>();
  const addGroup = (group: string, number: number): void => {
    must('groupadd', ['-g', String(number), group]);
    made.add(group);
    must('usermod', ['-aG', group, name]);
  };
  const inside = (...command: string[]): Ran => lab.inside(name, ...command);
  const owner = (file: string): string =>
    inside('stat', '-c', '%U:%G %u:%g %a', `/usr/local/${file}`).out.trim();
  const numberOf = (file: 'group' | 'passwd', account: string): number => {
    const text = lab.inMaster(`/etc/${file}`) ?? '';
    return Number(new RegExp(`^${account}:[^:]*:(\\d+):`, 'm').exec(text)?.[1]);
  };
  try {
    for (const [group, number] of Object.entries(groups)) addGroup(group, number);
    const script = IMAGE.replaceAll('$uid', String(uidOf(name)));
    const edit = lab.mayfly('enter', 'master', '--promote', '--', 'sh', '-c', script);
    expect(edit.code, edit.err).toBe(0);
    for (const line of [
      `group "mayfly-shark": number 7900 is now ${SHARK}`,
      /group "mayfly-cert": number 7702 is now 59\d{3}/,
      new RegExp(`user "mayfly-image": number ${uidOf(name)} is now 59\\d{3}`),
    ])
      expect(edit.err).toMatch(line);
    expect(numberOf('group', 'mayfly-shark')).toBe(SHARK);
    const [cert, image] = [numberOf('group', 'mayfly-cert'), numberOf('passwd', 'mayfly-image')];

    expect(lab.hook('start', name)).toMatchObject({ code: 0, err: '' });
    // An equal number alone gives no rights …
    for (const file of ['key', 'theirs', 'unnamed', 'subordinate'])
      expect(inside('cat', `/usr/local/${file}`), file).toMatchObject({ out: '', code: 1 });
    // … and the same name gives the same, with the set-gid bit as it was.
    expect(inside('/usr/local/shark', '-gn').out).toBe('mayfly-shark\n');
    expect(inside('sh', '-c', 'touch /usr/local/shared/new && stat -c %G /usr/local/shared/new').out).toBe(
      'mayfly-shark\n',
    );
    expect(owner('key')).toBe(`root:mayfly-cert 0:${cert} 640`);
    expect(owner('shark')).toBe(`root:mayfly-shark 0:${SHARK} 2750`);
    expect(owner('theirs')).toBe(`mayfly-image:mayfly-cert ${image}:${cert} 600`);
    expect(owner('subordinate')).toBe('UNKNOWN:UNKNOWN 100500:100500 600');
    expect(inside('stat', '-c', '%Y', '/usr/local/shared/old').out).toBe('1000000000\n');
    expect(inside('id', '-Gn').out.split(/\s/)).toEqual(expect.arrayContaining(Object.keys(groups)));
    lab.hook('stop', name);

    // Nothing is left to do: a night without changes makes no generation.
    const before = stable(lab);
    lab.configure('[update]\ncommand = ["true"]');
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    expect(stable(lab)).toBe(before);
    expect(readAt(`${lab.dir}/state/renumber.list`)).toBeUndefined();

    // What comes up later gives no rights in the generation that is there already.
    addGroup('mayfly-late', cert);
    expect(lab.hook('start', name)).toMatchObject({ code: 0 });
    expect(inside('id', '-Gn').out.split(/\s/)).toContain('mayfly-late');
    expect(inside('cat', '/usr/local/key')).toMatchObject({ out: '', code: 1 });
    expect(owner('key')).toMatch(/^root:mayfly-cert 0:59\d{3} 640$/);
    expect(owner('key')).not.toContain(`:${cert} `);
    expect(owner('theirs')).toMatch(/^mayfly-image:mayfly-cert /);
    expect(owner('unnamed')).toMatch(/^root:UNKNOWN /);
    expect(inside('/usr/local/shark', '-gn').out).toBe('mayfly-shark\n');
    lab.hook('stop', name);
    const { out } = lab.mayfly('doctor');
    if (lab.volumes().length === 0)
      expect(out).toContain(
        `the group "mayfly-cert" has number ${cert} in generation ${before}, which the host gives to another name`,
      );

    // The next update gives it a number of its own, though nothing else has changed; a name gets the host's.
    must('groupmod', ['-g', String(LATE), 'mayfly-shark']);
    expect(lab.mayfly('update')).toMatchObject({ code: 0 });
    lab.configure('');
    expect(stable(lab)).toBe(before + 1);
    expect(numberOf('group', 'mayfly-shark')).toBe(LATE);
    expect(numberOf('group', 'mayfly-cert')).not.toBe(cert);
    expect(lab.hook('start', name)).toMatchObject({ code: 0, err: '' });
    expect(inside('cat', '/usr/local/key')).toMatchObject({ out: '', code: 1 });
    expect(inside('/usr/local/shark', '-gn').out).toBe('mayfly-shark\n');
    lab.hook('stop', name);
  } finally {
    lab.hook('stop', name);
    for (const group of made) sh('groupdel', [group]);
  }
}
