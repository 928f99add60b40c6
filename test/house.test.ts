/** The layout of `src/`: imports have one direction and no cycles, and files stay small. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';

/** Folders from the top down. A file imports from its own folder and from those below it. */
const ORDER = ['cli', 'desktop|service', 'update', 'session', 'state', 'config', 'volume', 'linux'];
/** Files that every folder may import; each of them may import from those after it. */
const GROUND = ['advice.ts', 'size.ts', 'names.ts', 'errors.ts'];
/** The files that Node.js starts; nothing imports them. */
const ENTRIES = ['main.ts', 'loader.ts'];
const MOST_LINES = 250;

const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'));
const text = (file: string): string => readFileSync(`src/${file}`, 'utf8');

/** The modules of `src/` that a file imports: values, types, and dynamic imports. */
function importsOf(file: string): string[] {
  const names = [...text(file).matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map(m => m[1] ?? '');
  return names.map(name => normalize(join(dirname(file), name)));
}

const folderOf = (file: string): string => file.split('/')[0] ?? '';
const layerOf = (file: string): number => {
  const layer = ORDER.findIndex(folders => folders.split('|').includes(folderOf(file)));
  if (layer >= 0) return layer;
  const ground = GROUND.indexOf(file);
  return ground >= 0 ? ORDER.length + ground : -1;
};

describe('the source tree', () => {
  it('has a layer for every file', () => {
    expect(files.length).toBeGreaterThan(80);
    expect(files.filter(file => layerOf(file) < 0)).toEqual(expect.arrayContaining(ENTRIES));
    expect(files.filter(file => layerOf(file) < 0)).toHaveLength(ENTRIES.length);
  });

  it('has only imports that point down or stay in their folder', () => {
    const wrong = files.flatMap(file =>
      importsOf(file)
        .filter(to => {
          if (ENTRIES.includes(to)) return true;
          const [from, there] = [layerOf(file), layerOf(to)];
          return there < from || (there === from && folderOf(file) !== folderOf(to));
        })
        .map(to => `${file} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it('has no import cycle', () => {
    const state = new Map<string, 'open' | 'done'>();
    const cycles: string[] = [];
    const visit = (file: string, path: readonly string[]): void => {
      if (state.get(file) === 'open') cycles.push([...path.slice(path.indexOf(file)), file].join(' > '));
      if (state.has(file)) return;
      state.set(file, 'open');
      for (const to of importsOf(file)) visit(to, [...path, file]);
      state.set(file, 'done');
    };
    for (const file of files) visit(file, []);
    expect(cycles).toEqual([]);
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
    expect([...places].filter(([, where]) => where.length > 1)).toEqual([]);
  });

  it('imports file and process modules only in linux/, in the loader and in the watching of directories', () => {
    const modules = /from '(node:fs|node:child_process|execa|chokidar)'/;
    const found = files.filter(file => folderOf(file) !== 'linux' && modules.test(text(file)));
    expect(found.sort()).toEqual(['loader.ts', 'service/watch.ts']);
  });

  it('gives commands the way to a desktop only in linux/display.ts, and runs no window as root in a hook', () => {
    const variables =
      /--address=|\b(DISPLAY|XAUTHORITY|WAYLAND_\w+|DBUS_SESSION_\w+|XDG_RUNTIME_DIR|AT_SPI_\w+)=/;
    const programs = /\b(zenity|xmessage|notify-send|xhost|xauth|dbus-send|gdbus|dbus-launch)\b/;
    expect(files.filter(file => variables.test(text(file)))).toEqual(['linux/display.ts']);
    const named = files.filter(file => programs.test(text(file).replaceAll(/^\s*(\/?\*|\/\/).*$/gm, '')));
    expect(named.sort()).toEqual(['cli/doctor/setup.ts', 'session/refusal-dialog.ts']);
    for (const file of ['session/refusal-dialog.ts', 'session/message.ts'])
      expect(text(file).match(/\.run\((?!\{ \.\.\.on(?:Screen|Bus)\()/g)).toBeNull();
    const hooks = readdirSync('hooks', { recursive: true, encoding: 'utf8' })
      .filter(file => /^(gdm|lightdm|pam)\//.test(file))
      .map(file => readFileSync(`hooks/${file}`, 'utf8'));
    expect(hooks).toHaveLength(9);
    expect(hooks.filter(hook => programs.test(hook))).toEqual([]);
  });

  it('describes every folder in src/README.md', () => {
    const folders = [...new Set(files.filter(file => file.includes('/')).map(folderOf))];
    const described = [...readFileSync('src/README.md', 'utf8').matchAll(/^\| `([a-z]+)\/` +\|/gm)].map(
      m => m[1],
    );
    expect(described.sort()).toEqual(folders.sort());
  });

  it('has imports that this test recognizes', () => {
    expect(importsOf('main.ts')).toContain('cli/cli.ts');
    expect(importsOf('session/steps.ts')).toContain('session/steps/record.ts');
  });
});
