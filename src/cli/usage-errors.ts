/** Wrong use in our own words: what yargs finds, and what it lets pass. */
import { MayflyError } from '../errors.ts';
import { isNumber } from '../names.ts';

/**
 * yargs' own messages, for its `updateStrings`; `command` is the one called, as in "end <session>". Each gets as many
 * values as yargs has for it: "%c" passes over one (util.format in Node).
 */
export function usageStrings(command: string | undefined): Record<string, string> {
  const missing = command === undefined ? 'an argument' : (/<\w+>/.exec(command)?.[0] ?? 'an argument');
  const either = (words: string): string => ({ one: words, other: words }) as unknown as string; // as y18n has plurals
  return {
    'Not enough arguments following: %s': '--%s needs a value',
    'Not enough non-option arguments: got %s, need at least %s': either(
      `%c%c${missing} is missing${command === undefined ? '' : `: mayfly ${command}`}`,
    ),
    'Unknown argument: %s': either('unknown argument: %s'),
    'Invalid values:': 'invalid value:',
    'Argument: %s, Given: %s, Choices: %s': '"%s" is %s, not one of %s',
    'Did you mean %s?': 'there is no such command; did you mean "%s"?',
  };
}

/** The number of a generation as somebody typed it; throws `usage`. */
export function parseGenerationNumber(word: unknown): number {
  const text = String(word);
  if (!isNumber(text, 9) || text === '0')
    throw new MayflyError('usage', `"${text}" is not the number of a generation`);
  return Number(text);
}

/** Throws `usage` where one of these options was given. Those with a default can not be told from the default. */
export function refuseOptions(
  args: Readonly<Record<string, unknown>>,
  names: readonly string[],
  why: string,
): void {
  const given = names.find(name => args[name] !== undefined && args[name] !== false);
  if (given !== undefined) throw new MayflyError('usage', `--${given} ${why}`);
}
