/** Taking up a configuration that was changed, or staying with the one before where it is not valid. */
import type { Config } from '../config/config.ts';
import { loadConfig } from '../config/load.ts';
import { MayflyError, reasonOf } from '../errors.ts';
import type { Machine } from '../state/machine.ts';

/** Names of the options that differ, as in "logout.grace". */
export function changedOptions(before: Config, after: Config): string[] {
  const { files: _f, directory: _d, ...old } = before;
  return compare(old, after, '');
}

function compare(before: object, after: object, above: string): string[] {
  return Object.entries(before).flatMap(([name, old]) => {
    const fresh: unknown = Reflect.get(after, name);
    if (JSON.stringify(old) === JSON.stringify(fresh)) return [];
    const table = typeof old === 'object' && old !== null && !Array.isArray(old);
    return table ? compare(old, fresh as object, `${above}${name}.`) : [`${above}${name}`];
  });
}

/** The machine with the configuration that is in `file` now. Says what changed, or why it stays as it was. */
export async function reload(on: Machine, file: string): Promise<Machine> {
  let fresh: Config;
  try {
    fresh = await loadConfig(on.host, file);
  } catch (error) {
    const hint = error instanceof MayflyError && error.facts.hint ? ` (${error.facts.hint})` : '';
    on.log('err', `the configuration stays as it was: ${reasonOf(error)}${hint}`);
    return on;
  }
  const changed = changedOptions(on.config, fresh);
  const moved = changed.filter(name => name.startsWith('directories.'));
  if (moved.length > 0) {
    on.log(
      'warning',
      `${moved.join(', ')} changed: restart the service; until then it stays with the old ones`,
    );
  }
  const taken = changed.filter(name => !moved.includes(name));
  if (taken.length > 0) on.log('notice', `the configuration has changed: ${taken.join(', ')}`);
  return { ...on, config: { ...fresh, directories: on.config.directories } };
}
