/** Rows of the benchmarks' table, from those that run in vitest: run.mjs reads them from $MAYFLY_ROWS. */
import * as fs from 'node:fs';

/** What --rounds says, which is 20 where nothing is said. */
export const rounds = Number(process.env.MAYFLY_BENCH_ROUNDS ?? 20);

interface Row {
  readonly name: string;
  readonly metric: string;
  readonly value: number;
  readonly peer: string;
  readonly budget: number | null;
  readonly ok: boolean;
  readonly detail: Readonly<Record<string, number>>;
}

/** Tells one number, which should not exceed its budget. */
export function tell(row: Omit<Row, 'ok' | 'value'> & { readonly value: number }): void {
  const value = Number(row.value.toFixed(2));
  const whole: Row = { ...row, value, ok: row.budget === null || value <= row.budget };
  const file = process.env.MAYFLY_ROWS;
  if (file === undefined) console.log(whole);
  else fs.appendFileSync(file, `${JSON.stringify(whole)}\n`);
}

export const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? Number.NaN;
