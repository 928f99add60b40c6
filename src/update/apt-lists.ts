/**
 * Downloads the lists of packages. A repository that is dead, or an entry that apt cannot read, must not keep security
 * fixes away for ever: each entry is tried by itself then, and an update goes on without those that fail, if the
 * distribution's own are not among them.
 */
import { MayflyError, reasonOf } from '../errors.ts';
import type { Machine } from '../state/machine.ts';
import type { AptRuns, OwnFiles } from './apt-runs.ts';
import { withFiles } from './apt-runs.ts';
import { type ChrootOptions, errorLines, runInChroot } from './chroot.ts';
import { requiredEntries, type SourceEntry, sourceEntries } from './source-entries.ts';

const DIRECTORY = '/run/mayfly-sources.d';

/** Prints the name and the text of each file of sources, with NUL between. */
const PRINT =
  'for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do ' +
  '[ ! -f "$f" ] || { printf "%s\\0" "$f"; cat "$f"; printf "\\0"; }; done; cat /etc/os-release';

/** Options and files that make apt use these entries only. Pure. */
export function onlyEntries(entries: readonly SourceEntry[]): { files: OwnFiles; options: string[] } {
  const of = (form: SourceEntry['form']): string[] => entries.filter(e => e.form === form).map(e => e.text);
  const stanzas = of('sources').flatMap(text => [...text.split('\n'), '']);
  return {
    files: { [`${DIRECTORY}/a.list`]: of('list'), [`${DIRECTORY}/b.sources`]: stanzas },
    options: ['-o', 'Dir::Etc::SourceList=/dev/null', '-o', `Dir::Etc::SourceParts=${DIRECTORY}`],
  };
}

/** Keeps the lists of the other entries, tries once, and starts no hooks: they are no fault of an entry. */
const TRY = ['APT::Get::List-Cleanup=false', 'Acquire::Retries=1'].flatMap(s => ['-o', s]);
const NO_HOOKS = '/run/mayfly-no-hooks.conf';
const CLEAR = ['Pre-Invoke', 'Post-Invoke', 'Post-Invoke-Success'].map(
  list => `#clear APT::Update::${list};`,
);

/** Throws `command` with apt's reason if the lists of the distribution cannot be had. */
export async function updateLists(
  on: Machine,
  o: ChrootOptions,
  runs: AptRuns,
  configured: readonly string[],
): Promise<void> {
  try {
    await runs.run(['update']);
    return;
  } catch (error) {
    if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
    const kept = await keepWorking(on, o, runs, configured, error);
    const { files, options } = onlyEntries(kept);
    runs.useSources(files, options);
  }
}

async function keepWorking(
  on: Machine,
  o: ChrootOptions,
  runs: AptRuns,
  configured: readonly string[],
  failure: MayflyError,
): Promise<SourceEntry[]> {
  const { entries, release } = await entriesOf(on, o, configured);
  const apt = async (used: readonly SourceEntry[], args: readonly string[], read: boolean) => {
    const { files, options } = onlyEntries(used);
    const argv = ['apt-get', '-c', NO_HOOKS, ...runs.options, ...options, ...TRY, ...args];
    const name = ['apt-get', ...args].join(' ');
    return runInChroot(on, o, withFiles({ ...files, [NO_HOOKS]: CLEAR }, argv), { read, name });
  };
  const originOf = async (entry: SourceEntry): Promise<string> => {
    const args = ['indextargets', '--format', '$(ORIGIN)'];
    return (await apt([entry], args, true)).stdout.split('\n')[0] ?? '';
  };
  const origins = new Map<string, string>();
  const reasons = new Map<SourceEntry, string>();
  for (const entry of entries) {
    const learn = async (): Promise<void> => {
      const origin = await originOf(entry);
      if (origin !== '') origins.set(entry.where, origin);
    };
    try {
      await learn(); // before: of an earlier night, if it fails now
      await apt([entry], ['update'], false);
      await learn();
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
      reasons.set(entry, shortReason(error));
    }
  }
  const value = (name: string): string =>
    new RegExp(`^${name}="?([^"\\n]*)"?$`, 'm').exec(release)?.[1]?.toLowerCase() ?? '';
  const ids = `${value('ID')} ${value('ID_LIKE')}`.split(' ').filter(Boolean);
  const required = requiredEntries(entries, {
    ids,
    codename: value('VERSION_CODENAME') || undefined,
    origins,
  });
  if (required.some(e => reasons.has(e))) throw failure;
  const kept: SourceEntry[] = [];
  // Entries that work one by one can contradict each other, such as with two keys for one archive.
  for (const entry of [...required, ...entries.filter(e => !required.includes(e))]) {
    if (reasons.has(entry)) continue;
    try {
      await apt([...kept, entry], ['indextargets'], true);
      kept.push(entry);
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== 'command') throw error;
      reasons.set(entry, shortReason(error));
    }
  }
  if (kept.every(e => e.isSource)) throw failure;
  for (const [entry, reason] of reasons)
    o.warn(`the package source ${entry.where} is left out of this update: ${reason}`);
  return kept;
}

/** What apt says of an entry, without the conclusion that it draws. */
function shortReason(error: MayflyError): string {
  const lines = String(error.facts.stderr ?? '').split('\n');
  const said = lines.filter(
    line => !/^E: (Some index files failed|The list of sources could not)/.test(line),
  );
  return errorLines(said)[0] ?? reasonOf(error);
}

async function entriesOf(
  on: Machine,
  o: ChrootOptions,
  configured: readonly string[],
): Promise<{ entries: SourceEntry[]; release: string }> {
  const { stdout } = await runInChroot(on, o, ['sh', '-c', PRINT], { read: true, name: 'cat sources' });
  const parts = stdout.split('\0');
  const release = parts.pop() ?? '';
  if (configured.length > 0)
    return { entries: sourceEntries('"sources" in [update]', configured.join('\n')), release };
  const found: SourceEntry[] = [];
  for (let i = 0; i + 1 < parts.length; i += 2)
    found.push(...sourceEntries(parts[i] ?? '', parts[i + 1] ?? ''));
  return { entries: found, release };
}
