/** Wrong use in our own words: what the parser finds, and what it lets pass. */
import { MayflyError } from '../errors.ts';
import { isNumber } from '../names.ts';

/** What yargs says of a command line, as one sentence; `command` is the verb's, as in "end <session>". */
export function usageWords(message: string, command: string | undefined): string {
  const bare = /^Not enough arguments following: (\S+)/.exec(message)?.[1];
  if (bare !== undefined) return `--${bare} needs a value`;
  if (command && message.startsWith('Not enough non-option arguments'))
    return `${/<\w+>/.exec(command)?.[0] ?? 'an argument'} is missing: mayfly ${command}`;
  const [, name, given, choices] = /Argument: (\S+), Given: (.*), Choices: (.*)/.exec(message) ?? [];
  if (name !== undefined) return `${given} is not a choice of "${name}": ${choices}`;
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** The number of a generation as somebody typed it; throws `usage`. */
export function generationOf(word: unknown): number {
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
