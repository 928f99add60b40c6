/** The desktops a greeter offers: which, how they are run, and that they follow the stable generation. */
import { describe, expect, it } from 'vitest';
import { type DesktopEntry, readEntries } from '../../src/linux/desktop-entry.ts';
import { ENABLED_MARKER, planEntries, publishSessions, wrapEntry } from '../../src/update/greeter.ts';
import { preparedWorld } from '../world.ts';

const W = '/usr/lib/mayfly/hooks/session-wrapper';
const entry = (text: string, kind: DesktopEntry['kind'] = 'xsessions', name = 'a.desktop'): DesktopEntry => ({
  kind,
  name,
  text,
});
const desktop = (...lines: string[]): string => ['[Desktop Entry]', ...lines, ''].join('\n');

describe('an entry', () => {
  it.each<[string, string[], 'inside' | 'host', string[] | undefined]>([
    ['is wrapped', ['Name=A', 'Exec=a --b "c d"'], 'inside', ['Name=A', `Exec=${W} a --b "c d"`]],
    ['with spaces around "="', ['Name = A', 'Exec = a'], 'inside', ['Name=A', `Exec=${W} a`]],
    [
      'of the host',
      ['Name=A', 'Name[de]=B', 'Exec=a'],
      'host',
      ['Name=A (staff)', 'Name[de]=B (staff)', `Exec=${W} --host a`],
    ],
    [
      'loses what is asked of the host',
      ['Name=A', 'Exec=a', 'TryExec=a'],
      'inside',
      ['Name=A', `Exec=${W} a`],
    ],
    [
      'does not lead past Xsession',
      ['Name=A', 'Exec=a', 'X-GDM-BypassXsession=true'],
      'inside',
      ['Name=A', `Exec=${W} a`],
    ],
    [
      'keeps what is not about running it',
      ['Name=A', 'Exec=a', 'DesktopNames=A;B;'],
      'inside',
      ['Name=A', `Exec=${W} a`, 'DesktopNames=A;B;'],
    ],
    [
      'ends where an action begins',
      ['Name=A', 'Exec=a', '[Desktop Action x]', 'Exec=x'],
      'inside',
      ['Name=A', `Exec=${W} a`],
    ],
    ['"default" is a word of Xsession', ['Name=A', 'Exec=default'], 'inside', ['Name=A', 'Exec=default']],
    ['failsafe would run on the host', ['Name=A', 'Exec=failsafe'], 'inside', undefined],
    ['hidden', ['Name=A', 'Exec=a', 'Hidden=true'], 'inside', undefined],
    ['not to be shown', ['Name=A', 'Exec=a', 'NoDisplay=true'], 'host', undefined],
    ['without a command', ['Name=A'], 'inside', undefined],
    ['without a name', ['Exec=a'], 'inside', undefined],
  ])('%s', (_name, lines, where, expected) => {
    expect(wrapEntry(entry(desktop(...lines)), where)?.text).toBe(expected && desktop(...expected));
  });

  it('of Wayland says so, wherever it stands', () => {
    const e = wrapEntry(entry(desktop('Name=A', 'Exec=a'), 'wayland-sessions'), 'inside');
    expect(e?.text).toBe(desktop('Name=A', `Exec=${W} a`, 'X-LightDM-Session-Type=wayland'));
  });

  it('that is no entry at all is not offered', () => {
    for (const text of ['', 'Exec=a', '[Other]\nName=A\nExec=a\n', '\0\xff'])
      expect(wrapEntry(entry(text), 'inside')).toBeUndefined();
  });
});

describe('what only the host has', () => {
  const text = desktop('Name=A', 'Exec=a');
  const [both, mine] = [entry(text, 'xsessions', 'both.desktop'), entry(text, 'xsessions', 'host.desktop')];
  it.each([
    ['staff', `${W} --host a`, undefined],
    ['hide', 'a', 'true'],
  ] as const)('%s', (policy, command, hidden) => {
    const plan = planEntries([both], [both, mine], policy);
    expect(plan.map(e => e.name)).toEqual(['both.desktop', 'host.desktop']);
    expect(plan[0]?.text).toContain(`Exec=${W} a`);
    expect(plan[1]?.text).toContain(`Exec=${command}\n`);
    expect(/NoDisplay=(.*)/.exec(plan[1]?.text ?? '')?.[1]).toBe(hidden);
  });

  it('the same name for X and for Wayland are two', () => {
    const wayland = entry(text, 'wayland-sessions', 'both.desktop');
    expect(planEntries([both], [wayland], 'staff')).toHaveLength(2);
  });
});

describe('the list', () => {
  const shown = (w: ReturnType<typeof preparedWorld>) => w.host.list('/run/mayfly/greeter/xsessions');

  it('follows the stable generation, and what has gone is gone', async () => {
    const w = preparedWorld();
    const on = w.machine();
    const tree = treeOf(w);
    w.makeDirs('/etc/mayfly');
    w.put(ENABLED_MARKER, '');
    w.makeDirs(`${tree}/usr/share/xsessions`);
    w.put(`${tree}/usr/share/xsessions/x.desktop`, desktop('Name=X', 'Exec=x'));
    await publishSessions(on);
    expect(shown(w)).toEqual(['x.desktop']);
    w.put(`${tree}/usr/share/xsessions/y.desktop`, desktop('Name=Y', 'Exec=y', 'TryExec=not-there'));
    w.host.unlink(`${tree}/usr/share/xsessions/x.desktop`);
    w.makeDirs('/usr/share/xsessions');
    w.put('/usr/share/xsessions/z.desktop', desktop('Name=Z', 'Exec=z'));
    await publishSessions(on);
    expect(shown(w)).toEqual(['z.desktop']);
  });

  it('is made only where a display manager looks at it', async () => {
    const w = preparedWorld();
    await publishSessions(w.machine());
    expect(w.host.lstat('/run/mayfly/greeter')).toBeUndefined();
  });

  it.each([
    ['a symlink', 'link.desktop', 0],
    ['a name with a blank', 'a b.desktop', 0],
    ['another ending', 'a.desktop.bak', 0],
    ['one of another desktop', 'org.kde.plasma+x.desktop', 1],
  ])('%s', (_name, name, count) => {
    const w = preparedWorld();
    w.makeDirs('/t/usr/share/xsessions');
    const path = `/t/usr/share/xsessions/${name}`;
    if (name.startsWith('link')) w.host.symlink('/etc/shadow', path);
    else w.put(path, desktop('Name=A', 'Exec=a'));
    expect(readEntries(w.host, '/t')).toHaveLength(count);
  });
});

function treeOf(w: ReturnType<typeof preparedWorld>): string {
  const on = w.machine();
  const text = w.host.read(`${on.paths.generations}/1.json`) ?? '';
  const volume = (JSON.parse(text) as { volume: Parameters<ReturnType<typeof on.backend>['path']>[0] })
    .volume;
  return on.backend(volume.backend).path(volume) ?? '';
}
