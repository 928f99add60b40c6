/** The house plan of `src/`: imports point one way, nothing goes round in a circle, and files stay small. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Rooms from the top down. A file imports from its own room and from those below it. */
const ORDER = ['cli', 'desktop|service', 'update', 'session', 'state', 'config', 'volume', 'linux'];
/** What every room may import; of these, each from those after it. */
const GROUND = ['advice.ts', 'size.ts', 'names.ts', 'errors.ts'];
/** What node starts; nothing imports them. */
const ENTRIES = ['main.ts', 'loader.ts'];
const MOST_LINES = 250;

const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'));
const text = (file: string): string => readFileSync(`src/${file}`, 'utf8');

/** Modules of ours that a file names: imports of values, of types, and those made on use. */
function importsOf(file: string): string[] {
  const names = [...text(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(m => m[1] ?? '');
  return names.map(name => normalize(join(dirname(file), name)));
}

const roomOf = (file: string): string => file.split('/')[0] ?? '';
const floorOf = (file: string): number => {
  const floor = ORDER.findIndex(rooms => rooms.split('|').includes(roomOf(file)));
  if (floor >= 0) return floor;
  const ground = GROUND.indexOf(file);
  return ground >= 0 ? ORDER.length + ground : -1;
};

describe('the house', () => {
  it('has a place for every file', () => {
    expect(files.length).toBeGreaterThan(80);
    expect(files.filter(file => floorOf(file) < 0)).toEqual(expect.arrayContaining(ENTRIES));
    expect(files.filter(file => floorOf(file) < 0)).toHaveLength(ENTRIES.length);
  });

  it('has imports that point down, or stay in their room', () => {
    const wrong = files.flatMap(file =>
      importsOf(file)
        .filter(to => {
          if (ENTRIES.includes(to)) return true;
          const [from, there] = [floorOf(file), floorOf(to)];
          return there < from || (there === from && roomOf(file) !== roomOf(to));
        })
        .map(to => `${file} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it('has no circle of imports', () => {
    const state = new Map<string, 'open' | 'done'>();
    const circles: string[] = [];
    const visit = (file: string, path: readonly string[]): void => {
      if (state.get(file) === 'open') circles.push([...path.slice(path.indexOf(file)), file].join(' > '));
      if (state.has(file)) return;
      state.set(file, 'open');
      for (const to of importsOf(file)) visit(to, [...path, file]);
      state.set(file, 'done');
    };
    for (const file of files) visit(file, []);
    expect(circles).toEqual([]);
  });

  it(`has no file over ${MOST_LINES} lines without a reason in its first comment ("Long because")`, () => {
    const long = files.filter(
      file =>
        text(file).split('\n').length > MOST_LINES &&
        !/^\/\*\*[\s\S]*?Long because[\s\S]*?\*\//.test(text(file)),
    );
    expect(long).toEqual([]);
  });

  it('has one meaning for every exported name', () => {
    const places = new Map<string, string[]>();
    for (const file of files)
      for (const [, name = ''] of text(file).matchAll(
        /^export (?:declare )?(?:async )?(?:function|const|class|interface|type) (\w+)/gm,
      ))
        places.set(name, [...(places.get(name) ?? []), file]);
    expect([...places].filter(([, in_]) => in_.length > 1)).toEqual([]);
  });

  it('reaches the system from linux/ only, but for the loader’s code and the watching of directories', () => {
    const reach = /from '(node:fs|node:child_process|execa|chokidar)'/;
    const found = files.filter(file => roomOf(file) !== 'linux' && reach.test(text(file)));
    expect(found.sort()).toEqual(['loader.ts', 'service/watch.ts']);
  });

  it('says of every room what it is for and what it may import', () => {
    const rooms = [...new Set(files.filter(file => file.includes('/')).map(roomOf))];
    const described = [...readFileSync('src/README.md', 'utf8').matchAll(/^\| `([a-z]+)\/` +\|/gm)].map(
      m => m[1],
    );
    expect(described.sort()).toEqual(rooms.sort());
  });

  it('shows its imports to this test: one that is named otherwise would not be seen', () => {
    expect(importsOf('main.ts')).toContain('cli/cli.ts');
    expect(importsOf('session/steps.ts')).toContain('session/steps/record.ts');
  });
});
