/** Users whose services logind starts at boot ("lingering"). It keeps a file for each, whose name is the escaped user name. */

export const LINGER = '/var/lib/systemd/linger';

/** The name of a user's file, as systemd's cescape() makes it: "DOM\\\\alice" for "DOM\\alice". Pure. */
export function lingerFile(user: string): string {
  const escaped = [...Buffer.from(user)].map(byte => {
    const character = String.fromCharCode(byte);
    if ('\\"\''.includes(character)) return `\\${character}`;
    return byte >= 32 && byte < 127 ? character : `\\${byte.toString(8).padStart(3, '0')}`;
  });
  return `${LINGER}/${escaped.join('')}`;
}

/** The user of a file's name. Pure. */
export function lingeringUser(name: string): string {
  const bytes = [...name.matchAll(/\\([0-7]{3})|\\(.)|([^\\]+)/gsu)].flatMap(([, octal, escaped, plain]) =>
    octal === undefined ? [...Buffer.from(escaped ?? plain ?? '')] : [Number.parseInt(octal, 8)],
  );
  return Buffer.from(bytes).toString();
}
