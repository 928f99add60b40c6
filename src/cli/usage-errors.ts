/** Usage errors: messages for those that yargs detects, and checks for those that it does not. */
import { MayflyError } from '../errors.ts';
import { isNumber } from '../names.ts';

/** Turns yargs's message into ours, one sentence; `command` is the command's synopsis, such as "end <session>". */
export function usageMessage(message: string, command: string | undefined): string {
  const bare = /^Not enough arguments following: (\S+)/.exec(message)?.[1];
  if (bare !== undefined) return `--${bare} needs a value`;
  if (command && message.startsWith('Not enough non-option arguments'))
    return `missing argument ${/<\w+>/.exec(command)?.[0] ?? ''}: mayfly ${command}`;
  const [, name, given, choices] = /Argument: (\S+), Given: (.*), Choices: (.*)/.exec(message) ?? [];
  if (name !== undefined) return `invalid ${name} ${given}: choose from ${choices}`;
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** Parses a generation number from the command line. Throws `usage`. */
export function generationOf(argument: unknown): number {
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
