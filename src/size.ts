/** Sizes as people write them, in bytes, and bytes in words. */
import { DIGITS, isMadeOf } from './names.ts';

/** Bytes of a size, or of a part of `whole` such as "20%". */

export function bytesOf(size: string, whole: number): number {
  return size.endsWith('%') ? Math.floor((whole * Number(size.slice(0, -1))) / 100) : parseSize(size);
}

/** Bytes of "512M", "10G", "1T", "4096". The configuration check has already refused anything else. */
export function parseSize(text: string): number {
  const power = 'KMGT'.indexOf(text.slice(-1)) + 1;
  const number = power > 0 ? text.slice(0, -1) : text;
  if (number === '' || !isMadeOf(number, `${DIGITS}.`)) return Number.NaN;
  return Math.floor(Number(number) * 1024 ** power);
}

/** Bytes in words. */
export function formatBytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.floor(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
