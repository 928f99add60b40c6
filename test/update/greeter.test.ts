/** The desktops that a greeter offers: which ones, how they start, and that they follow the stable generation. */

import { describe, expect, it } from 'vitest';
import { type DesktopEntry, readEntries } from '../../src/linux/desktop-entry.ts';
import { ENABLED_MARKER } from '../../src/state/paths.ts';
import { desktopsInside, planEntries, publishSessions, wrapEntry } from '../../src/update/greeter.ts';
import { preparedWorld } from '../world.ts';

const W = '/usr/lib/mayfly/hooks/session-wrapper --xsession';
const BYPASS = 'X-GDM-BypassXsession=true';
const entry = (text: string, kind: DesktopEntry['kind'] = 'xsessions', name = 'a.desktop'): DesktopEntry => ({
  kind,
  name,
  text,
});
const desktop = (...lines: string[]): string => ['[Desktop Entry]', ...lines, ''].join('\n');

describe('a desktop entry', () => {
  it.each<[string, string[], 'inside' | 'host', string[] | undefined]>([
    [
      'gets the wrapper before its command',
      ['Name=A', 'Exec=a --b "c d"'],
      'inside',
      ['Name=A', `Exec=${W} a --b "c d"`, BYPASS],
    ],
    ['may have spaces around "="', ['Name = A', 'Exec = a'], 'inside', ['Name=A', `Exec=${W} a`, BYPASS]],
    [
      'of the host is marked as for staff',
      ['Name=A', 'Name[de]=B', 'Exec=a'],
      'host',
      ['Name=A (staff)', 'Name[de]=B (staff)', `Exec=${W} --host a`, BYPASS],
    ],
    [
      'loses TryExec, which would be looked up on the host',
      ['Name=A', 'Exec=a', 'TryExec=a'],
      'inside',
      ['Name=A', `Exec=${W} a`, BYPASS],
    ],
    [
      'bypasses the Xsession of the host, not that of the generation',
      ['Name=A', 'Exec=a', 'X-GDM-BypassXsession=true'],
      'inside',
      ['Name=A', `Exec=${W} a`, BYPASS],
    ],
    [
      'keeps keys that do not affect how it starts',
      ['Name=A', 'Exec=a', 'DesktopNames=A;B;'],
      'inside',
      ['Name=A', `Exec=${W} a`, 'DesktopNames=A;B;', BYPASS],
    ],
    [
      'ends at the first action',
      ['Name=A', 'Exec=a', '[Desktop Action x]', 'Exec=x'],
      'inside',
      ['Name=A', `Exec=${W} a`, BYPASS],
    ],
    [
      'has "default" interpreted inside',
      ['Name=A', 'Exec=default'],
      'inside',
      ['Name=A', `Exec=${W} default`, BYPASS],
    ],
    [
      'with "failsafe" is a terminal inside',
      ['Name=A', 'Exec=failsafe'],
      'inside',
      ['Name=A', `Exec=${W} failsafe`, BYPASS],
    ],
    ['that is hidden is not offered', ['Name=A', 'Exec=a', 'Hidden=true'], 'inside', undefined],
    ['with NoDisplay is not offered', ['Name=A', 'Exec=a', 'NoDisplay=true'], 'host', undefined],
    ['without a command is not offered', ['Name=A'], 'inside', undefined],
    ['without a name is not offered', ['Exec=a'], 'inside', undefined],
  ])('%s', (_name, lines, where, expected) => {
    expect(wrapEntry(entry(desktop(...lines)), where)?.text).toBe(expected && desktop(...expected));
  });

  it('for Wayland says so in any directory', () => {
    const e = wrapEntry(entry(desktop('Name=A', 'Exec=a'), 'wayland-sessions'), 'inside');
    expect(e?.text).toBe(desktop('Name=A', `Exec=${W.split(' ')[0]} a`, 'X-LightDM-Session-Type=wayland'));
  });

  it('that cannot be parsed is not offered', () => {
    for (const text of ['', 'Exec=a', '[Other]\nName=A\nExec=a\n', '\0\xff'])
      expect(wrapEntry(entry(text), 'inside')).toBeUndefined();
  });
});

describe('a desktop that only the host has', () => {
  const text = desktop('Name=A', 'Exec=a');
  const [both, mine] = [entry(text, 'xsessions', 'both.desktop'), entry(text, 'xsessions', 'host.desktop')];
  it.each([
    ['staff', `${W} --host a`, undefined],
    ['hide', 'a', 'true'],
  ] as const)('is offered or hidden as the policy "%s" says', (policy, command, hidden) => {
    const plan = planEntries([both], [both, mine], policy);
    expect(plan.map(e => e.name)).toEqual(['both.desktop', 'host.desktop']);
    expect(plan[0]?.text).toContain(`Exec=${W} a`);
    expect(plan[1]?.text).toContain(`Exec=${command}\n`);
    expect(/NoDisplay=(.*)/.exec(plan[1]?.text ?? '')?.[1]).toBe(hidden);
  });

  it.each([
    ['default', 'a', `Exec=${W} default`],
    ['default', undefined, `Exec=${W} --host default`],
    ['failsafe', 'a', `Exec=${W} failsafe`],
  ])('that is "%s" is for everybody if there is a desktop for X inside: %s', (command, other, line) => {
    const inside = other === undefined ? [] : [entry(text)];
    const own = entry(desktop('Name=Default', `Exec=${command}`), 'xsessions', 'host.desktop');
    expect(planEntries(inside, [own], 'staff').at(-1)?.text).toContain(`${line}\n`);
  });

  it('is not hidden by one with the same name of the other session type', () => {
    const wayland = entry(text, 'wayland-sessions', 'both.desktop');
    expect(planEntries([both], [wayland], 'staff')).toHaveLength(2);
  });
});

describe('the published list', () => {
  const shown = (w: ReturnType<typeof preparedWorld>) => w.host.list('/run/mayfly/greeter/xsessions');

  it('follows the stable generation and drops entries that it no longer has', async () => {
    const w = preparedWorld();
    const on = w.machine();
    const tree = treeOf(w);
    w.makeDirs('/etc/mayfly');
    w.put(ENABLED_MARKER, '');
    w.makeDirs(`${tree}/usr/share/xsessions`);
    w.put(`${tree}/usr/share/xsessions/x.desktop`, desktop('Name=X', 'Exec=x'));
    await publishSessions(on);
    expect(shown(w)).toEqual(['x.desktop']);
    expect(desktopsInside(w.host)).toBe(1);
    w.put(`${tree}/usr/share/xsessions/y.desktop`, desktop('Name=Y', 'Exec=y', 'TryExec=not-there'));
    w.host.unlink(`${tree}/usr/share/xsessions/x.desktop`);
    w.makeDirs('/usr/share/xsessions');
    w.put('/usr/share/xsessions/z.desktop', desktop('Name=Z', 'Exec=z'));
    await publishSessions(on);
    expect(shown(w)).toEqual(['z.desktop']);
    expect(desktopsInside(w.host)).toBe(0); // it is the host's
  });

  it('is written only if a display manager reads it', async () => {
    const w = preparedWorld();
    await publishSessions(w.machine());
    expect(w.host.lstat('/run/mayfly/greeter')).toBeUndefined();
    expect(desktopsInside(w.host)).toBeUndefined();
  });

  it.each([
    ['leaves out a symlink', 'link.desktop', 0],
    ['leaves out a name with a space', 'a b.desktop', 0],
    ['leaves out another suffix', 'a.desktop.bak', 0],
    ['includes a name with other characters', 'org.kde.plasma+x.desktop', 1],
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
