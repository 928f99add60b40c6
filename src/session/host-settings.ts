/** Settings of a machine that sessions have from the host: where they are, and what their texts say. Pure. */

import { DIGITS, isMadeOf, WORD } from '../names.ts';

export const MACHINE_ID = '/etc/machine-id';
/** Usually a symlink to {@link MACHINE_ID}. */
export const DBUS_ID = '/var/lib/dbus/machine-id';
export const HOSTNAME = '/etc/hostname';
export const RESOLVER = '/etc/resolv.conf';
export const LOCALTIME = '/etc/localtime';
export const TIMEZONE = '/etc/timezone';
export const LOCALE = '/etc/default/locale';
/** What an image has of these was true of the machine that made it: they are not kept where the host has none. */
export const OF_THE_MACHINE = [MACHINE_ID, HOSTNAME, RESOLVER, LOCALTIME];
export const KERBEROS = '/etc/krb5.conf';
/** The administrator's certificates, one in a file; and where programs look for those to trust. */
export const CERTIFICATES = '/usr/local/share/ca-certificates';
export const TRUSTED = '/etc/ssl/certs';

/** Whether the text of a machine-id(5) file is complete: it is empty or "uninitialized" before the first boot. */
export const isMachineId = (text = ''): boolean => {
  const id = text.endsWith('\n') ? text.slice(0, -1) : text;
  return id.length === 32 && isMadeOf(id, `${DIGITS}abcdef`); // V8 would compile an expression in every hook
};

/** Whether the text of locale(5) settings names a language: those of C are what programs speak without one. */
export const namesLanguage = (text: string | undefined): boolean =>
  text?.includes('LANG=') === true && /^\s*(?:export\s+)?LANG=["']?(?!(?:C|POSIX)\b)\w/m.test(text);

export const ZONES = '/usr/share/zoneinfo/';

/** The name of the time zone that a symlink in the place of /etc/localtime leads to, such as "Europe/Berlin". Pure. */
export function zoneOf(target = ''): string | undefined {
  const at = target.lastIndexOf(ZONES);
  const zone = at < 0 ? '' : target.slice(at + ZONES.length);
  const isName = isMadeOf(zone, `${WORD}+/-`) && !'_+/-'.includes(zone.charAt(0));
  return isName ? zone : undefined;
}
