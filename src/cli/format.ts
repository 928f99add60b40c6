/** Text for terminals: columns and ages. */
import { printableLine } from '../linux/printable.ts';

/**
 * Aligns rows in columns as wide as their widest cell, separated by two spaces. Control characters are escaped, and each
 * row stays one line.
 */
export function table(cells: readonly (readonly string[])[]): string {
  const rows = cells.map(row => row.map(printableLine));
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map(r => (r[i] ?? '').length)));
  return rows
    .map(r =>
      r
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** The time from `from` to `now` (milliseconds since the epoch): "5 min", "3 h", "2 d". */
export function ago(from: number, now: number): string {
  const minutes = Math.max(0, Math.floor((now - from) / 60_000));
  if (minutes < 60) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}
