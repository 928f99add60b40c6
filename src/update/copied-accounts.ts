/**
 * The account files of a copy of the running system: without its people, and without passwords. A session gets the
 * account of its own user (session/identity.ts). Pure.
 */

export interface PasswdLine {
  readonly name: string;
  readonly uid: number;
  readonly home: string;
}

const linesOf = (text: string): string[] => text.split('\n').filter(Boolean);

const join = (lines: readonly string[]): string => lines.map(line => `${line}\n`).join('');

export function passwdLines(text: string): PasswdLine[] {
  return linesOf(text).map(line => {
    const [name = '', , uid = '', , , home = ''] = line.split(':');
    return { name, uid: /^\d+$/.test(uid) ? Number(uid) : Number.NaN, home };
  });
}

/** The files in /etc that name accounts; those that a system lacks are undefined. */
export interface AccountTexts {
  readonly passwd: string;
  readonly group: string;
  readonly shadow?: string | undefined;
  readonly gshadow?: string | undefined;
  readonly subuid?: string | undefined;
  readonly subgid?: string | undefined;
}

/**
 * The same files without people: their accounts, the groups of their own, their memberships and ranges, and without any
 * password, also those in passwd(5) and group(5). Names that no account has are people of a directory.
 */
export function withoutPeople(all: AccountTexts, isPerson: (uid: number) => boolean): AccountTexts {
  const accounts = passwdLines(all.passwd);
  const people = new Set(accounts.filter(a => isPerson(a.uid)).map(a => a.name));
  const kept = new Set(accounts.filter(a => !people.has(a.name)).map(a => a.name));
  const members = (list = ''): string => {
    const names = list.split(',').filter(name => kept.has(name));
    return names.join(',');
  };
  const isOwn = (line: string): boolean => people.has(line.split(':')[0] ?? '');
  /** A group of one person, as adduser(8) makes it. A person may have the name of another group. */
  const isOwnGroup = (line: string): boolean => {
    const [, , gid = ''] = line.split(':');
    return isOwn(line) && isPerson(Number(gid));
  };
  const hidden = (file: string | undefined, lock: string): string => (file === undefined ? lock : 'x');
  const withPassword = (line: string, password: string): string => {
    const [name, , ...rest] = line.split(':');
    return [name, password, ...rest].join(':');
  };
  const ranges = (text: string | undefined): string | undefined =>
    text === undefined
      ? undefined
      : join(
          linesOf(text).filter(line => {
            const owner = line.split(':')[0] ?? '';
            return kept.has(owner) || accounts.some(a => kept.has(a.name) && String(a.uid) === owner);
          }),
        );
  const shadowLines = (text: string | undefined, change: (line: string) => string): string | undefined =>
    text === undefined ? undefined : join(linesOf(text).map(change));
  const groups = linesOf(all.group).filter(line => !isOwnGroup(line));
  const groupNames = new Set(groups.map(line => line.split(':')[0]));
  return {
    passwd: join(
      linesOf(all.passwd)
        .filter(line => !isOwn(line))
        .map(line => withPassword(line, hidden(all.shadow, '*'))),
    ),
    group: join(
      groups.map(line => {
        const [name, , gid, list] = line.split(':');
        return [name, hidden(all.gshadow, '!'), gid, members(list)].join(':');
      }),
    ),
    shadow: shadowLines(
      all.shadow &&
        linesOf(all.shadow)
          .filter(line => kept.has(line.split(':')[0] ?? ''))
          .join('\n'),
      line => withPassword(line, '*'),
    ),
    gshadow: shadowLines(
      all.gshadow &&
        linesOf(all.gshadow)
          .filter(line => groupNames.has(line.split(':')[0]))
          .join('\n'),
      line => {
        const [name, , admins, list] = line.split(':');
        return [name, '!', members(admins), members(list)].join(':');
      },
    ),
    subuid: ranges(all.subuid),
    subgid: ranges(all.subgid),
  };
}
