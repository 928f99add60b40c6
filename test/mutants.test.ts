/** The mutants of `scripts/campaign mutants` still apply to the source; those who change a rule change its mutant. */
import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

interface Mutant {
  readonly rule: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  readonly by?: string;
  readonly system?: string;
}

const mutants = JSON.parse(readFileSync('test/mutants.json', 'utf8')) as readonly Mutant[];

it.each(mutants.map(m => [m.rule, m] as const))('the mutant of the rule "%s" applies', (_, m) => {
  const text = readFileSync(`src/${m.file}`, 'utf8');
  expect(text.split(m.from).length - 1, `${m.from} in src/${m.file}`).toBe(1);
  expect(m.to).not.toBe(m.from);
  expect(existsSync(m.by ?? m.system ?? '')).toBe(true);
});

it('there is one mutant for each rule', () => {
  expect(new Set(mutants.map(m => m.rule)).size).toBe(mutants.length);
});
