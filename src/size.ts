/** Parsing and formatting sizes. */
import { DIGITS, isMadeOf } from './names.ts';

/** Converts a size, or a percentage of `total` such as "20%", to bytes. `total` is in bytes. */
export function bytesOf(size: string, total: number): number {
  return size.endsWith('%') ? Math.floor((total * Number(size.slice(0, -1))) / 100) : parseSize(size);
}

/**
 * Converts "512M", "10G", "1T" or "4096" to bytes; the units are powers of 1024. NaN for anything else, which the
 * configuration check refuses.
 */
export function parseSize(text: string): number {
  const power = 'KMGT'.indexOf(text.slice(-1)) + 1;
  const number = power > 0 ? text.slice(0, -1) : text;
  if (number === '' || !isMadeOf(number, `${DIGITS}.`)) return Number.NaN;
  return Math.floor(Number(number) * 1024 ** power);
}

/** Formats bytes as "512 MiB" or "1.5 GiB". */
export function formatBytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.floor(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
