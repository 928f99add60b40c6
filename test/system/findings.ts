/** What the doctor says, as data. */
import { expect } from 'vitest';
import type { Ran } from './lab.ts';

export interface Seen {
  readonly check: string;
  readonly level: string;
  readonly what: string;
  readonly hint: string;
}

interface Answer {
  readonly code: number;
  readonly checks: readonly { check: string; level: string; findings: Omit<Seen, 'check'>[] }[];
}

/** The findings of `doctor --json`; the exit code of the process is the one it tells. */
export function findings(r: Ran): Seen[] {
  const answer = JSON.parse(r.out) as Answer;
  expect(answer.code, r.out).toBe(r.code);
  return answer.checks.flatMap(c => c.findings.map(f => ({ check: c.check, ...f })));
}
