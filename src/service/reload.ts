/** Loads a configuration that has changed, or keeps the previous one if the new one is invalid. */
import type { Config } from '../config/config.ts';
import { loadConfig, whyInvalid } from '../config/load.ts';
import type { Machine } from '../state/machine.ts';

/** The names of the options that differ, such as "logout.grace". */
export function changedOptions(before: Config, after: Config): string[] {
  const { files: _f, directory: _d, invalid: _i, ...old } = before;
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

/**
 * Returns the machine with the configuration that is in `file` now, and logs which options have changed. Keeps the
 * previous configuration if the new one is invalid, and the previous directories in any case.
 */
export async function reload(on: Machine, file: string): Promise<Machine> {
  let fresh: Config;
  try {
    fresh = await loadConfig(on.host, file);
  } catch (error) {
    const invalid = whyInvalid(error);
    on.log('err', `keeping the previous configuration: ${invalid}`);
    return { ...on, config: { ...on.config, invalid } };
  }
  if (on.config.invalid) on.log('notice', 'the configuration is valid again');
  const changed = changedOptions(on.config, fresh);
  const moved = changed.filter(name => name.startsWith('directories.'));
  if (moved.length > 0) {
    on.log('warning', `${moved.join(', ')} changed; the service uses the old value until it is restarted`);
  }
  const applied = changed.filter(name => !moved.includes(name));
  if (applied.length > 0) on.log('notice', `the configuration has changed: ${applied.join(', ')}`);
  return { ...on, config: { ...fresh, directories: on.config.directories } };
}
