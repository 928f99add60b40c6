/** The names of other people in a session, so that `ls -l` and `find -user` show and know them. */

/**
 * Returns the text of a passwd(5) or group(5) file with the lines of the host's whose name and number are both free in
 * it. No password comes along, and no membership: nobody becomes more than a name. Pure.
 */
export function withNames(text: string, hostText: string, kind: 'passwd' | 'group'): string {
  const names = new Set<string>();
  const numbers = new Set<string>();
  for (const line of text.split('\n')) {
    const [name = '', , number = ''] = line.split(':', 3);
    names.add(name);
    numbers.add(number);
  }
  const added = hostText.split('\n').flatMap(line => {
    const [name = '', , number = '', ...rest] = line.split(':');
    // "+" and "-" stand for all names of a directory in old files.
    if (!/^[^+-]/.test(name) || !/^\d+$/.test(number) || names.has(name) || numbers.has(number)) return [];
    names.add(name);
    numbers.add(number);
    return [`${name}:x:${number}:${kind === 'group' ? '' : rest.join(':')}\n`];
  });
  return text + added.join('');
}
