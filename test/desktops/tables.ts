/** The tables of docs/inside.md, made of what the suite leaves in test/artefacts: one file for each release and desktop. */
import * as fs from 'node:fs';
import { ACTIONS, DIFFERENT } from './actions.ts';
import { SAVED } from './everyday.ts';

const RELEASES: Readonly<Record<string, string>> = { bookworm: '12', trixie: '13' };

export interface Measured {
  /** As in "Xfce (12)". */
  readonly desk: string;
  /** By row: what it said on the host, and in a session if that is something else. */
  readonly rows: ReadonlyMap<string, { readonly host: string; readonly session: string }>;
}

/** A line for each row, with tabs between: "=" or "x", the row, the host, and the session if it differs. */
export function parseMeasured(desk: string, text: string): Measured {
  const rows = text
    .split('\n')
    .filter(Boolean)
    .map(line => line.split('\t'))
    .map(([mark, row = '', host = '', session = '']) => [
      row,
      { host, session: mark === '=' ? host : session },
    ]);
  return { desk, rows: new Map(rows as [string, { host: string; session: string }][]) };
}

/** All that is in the directory, by release and name. */
export function readMeasured(directory: string): Measured[] {
  return fs.readdirSync(directory).flatMap(file => {
    const [, suite = '', desk = ''] = /^([a-z]+)-(\w+)\.txt$/.exec(file) ?? [];
    const release = RELEASES[suite];
    if (release === undefined) return [];
    return [parseMeasured(`${desk} (${release})`, fs.readFileSync(`${directory}/${file}`, 'utf8'))];
  });
}

const LONGEST = 110;
const cell = (text: string): string => {
  const short = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  return short.replaceAll('|', '\\|').replaceAll('<', '&lt;');
};
const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
/** Without what the command said. */
const code = (value: string): string => value.split(' ', 1)[0] ?? '';

const isAction = (row: string): boolean => row in ACTIONS || row in SAVED;

/** The programs with sandboxes: a column for each desktop. */
export function programTable(all: readonly Measured[]): string {
  const names = [...new Set(all.flatMap(m => [...m.rows.keys()]))].filter(row => !isAction(row));
  return table(
    ['program', ...all.map(m => m.desk)],
    names.map(row => [
      row,
      ...all.map(({ rows }) => {
        const found = rows.get(row);
        return found ? `${code(found.host)} / ${code(found.session)}` : '';
      }),
    ]),
  );
}

/** What people do every day: the words of the first desktop, and whether a session's are the host's on each. */
export function actionTable(all: readonly Measured[]): string {
  const with_ = all.filter(m => [...m.rows.keys()].some(isAction));
  const names = [...new Set(with_.flatMap(m => [...m.rows.keys()]))].filter(isAction);
  return table(
    ['action', 'on the host', 'in a session', ...with_.map(m => m.desk)],
    names.map(row => {
      const found = with_.map(m => m.rows.get(row));
      const differing = found.find(f => f && f.host !== f.session);
      const shown = differing ?? found.find(f => f);
      return [
        row,
        cell(shown?.host ?? ''),
        differing ? cell(differing.session) || 'nothing' : 'the same',
        ...found.map(f => (f === undefined ? '' : f.host === f.session ? '=' : 'differs')),
      ];
    }),
  );
}

/** Rows that differ somewhere and are not said to. */
export const unexplained = (all: readonly Measured[]): string[] =>
  all.flatMap(({ desk, rows }) =>
    [...rows]
      .filter(([row, { host, session }]) => host !== session && !DIFFERENT[row]?.test(session))
      .map(([row]) => `${desk}: ${row}`),
  );

/** Writes both tables, to be copied to docs/inside.md. */
export function writeTables(directory: string): void {
  const all = readMeasured(directory);
  fs.writeFileSync(`${directory}/inside.md`, `${programTable(all)}\n\n${actionTable(all)}\n`);
}
