/** Usage errors: messages for those that yargs detects, and checks for those that it does not. */
import { MayflyError } from '../errors.ts';
import { isNumber } from '../names.ts';

/**
 * Our wording of yargs's messages, for its `updateStrings`; `command` is the command's synopsis, such as
 * "end <session>". yargs formats each with its own values; "%c" skips one (util.format in Node).
 */
export function usageStrings(command: string | undefined): Record<string, string> {
  const missing = /<\w+>/.exec(command ?? '')?.[0] ?? '';
  const plural = (text: string): string => ({ one: text, other: text }) as unknown as string; // as y18n has them
  return {
    'Not enough arguments following: %s': '--%s needs a value',
    'Not enough non-option arguments: got %s, need at least %s': plural(
      `%c%cmissing argument ${missing}: mayfly ${command ?? '--help'}`,
    ),
    'Unknown argument: %s': plural('unknown argument: %s'),
    'Invalid values:': ' ', // a heading of its own line
    'Argument: %s, Given: %s, Choices: %s': 'invalid %s %s: choose from %s',
    'Did you mean %s?': 'unknown command; did you mean "%s"?',
  };
}

/** Parses a generation number from the command line. Throws `usage`. */
export function parseGenerationNumber(argument: unknown): number {
  const text = String(argument);
  if (!isNumber(text, 9) || text === '0') throw new MayflyError('usage', `invalid generation "${text}"`);
  return Number(text);
}

/** Throws `usage` if one of these options was given. An option that has a default always looks as if it was given. */
export function refuseOptions(
  args: Readonly<Record<string, unknown>>,
  names: readonly string[],
  why: string,
): void {
  const given = names.find(name => args[name] !== undefined && args[name] !== false);
  if (given !== undefined) throw new MayflyError('usage', `--${given} ${why}`);
}
