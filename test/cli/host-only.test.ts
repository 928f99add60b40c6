/** What only the image has and works only on the host, as doctor lists it. */
import { expect, it } from 'vitest';
import { judgeHostOnly, missingOnHost } from '../../src/cli/doctor/host-only.ts';
import { judgeKernelMatch } from '../../src/cli/doctor/kernel-pairs.ts';
import { World } from '../world.ts';

const TREE = '/tree';

function missing(host: Record<string, string>, image: Record<string, string>): string[] {
  const w = new World();
  const all = [
    ...Object.entries(host),
    ...Object.entries(image).map(([path, text]) => [TREE + path, text] as const),
  ];
  for (const [path, text] of all) {
    w.makeDirs(path.slice(0, path.lastIndexOf('/')));
    w.put(path, text);
  }
  return missingOnHost(w.host, TREE).map(f => `${f.kind} ${f.path}`);
}

it.each([
  ['a rule of a package', {}, { '/usr/lib/udev/rules.d/51-android.rules': '' }, 'udev rules'],
  ['a policy of the bus', {}, { '/usr/share/dbus-1/system.d/x.conf': '' }, 'D-Bus policies and services'],
  [
    'a service of the bus',
    {},
    { '/usr/share/dbus-1/system-services/x.service': '' },
    'D-Bus policies and services',
  ],
  ['a rule of polkit', {}, { '/etc/polkit-1/rules.d/9.rules': '' }, 'polkit rules and actions'],
  ['an action of polkit', {}, { '/usr/share/polkit-1/actions/x.policy': '' }, 'polkit rules and actions'],
  ['a kernel setting', {}, { '/etc/sysctl.d/9.conf': 'a=1' }, 'kernel settings'],
  [
    'another kernel setting than on the host',
    { '/etc/sysctl.d/9.conf': 'a=2' },
    { '/etc/sysctl.d/9.conf': 'a=1' },
    'kernel settings',
  ],
  ['a module setting', {}, { '/etc/modprobe.d/9.conf': '' }, 'settings of kernel modules'],
  ['a list of modules', {}, { '/etc/modules-load.d/9.conf': '' }, 'settings of kernel modules'],
  ['a unit of the administrator', {}, { '/etc/systemd/system/own.service': '' }, 'system units'],
  ['a job of cron', {}, { '/etc/cron.d/job': '' }, 'cron jobs'],
] as const)('%s has no effect', (_what, host, image, kind) =>
  expect(missing(host, image)).toEqual([`${kind} ${Object.keys(image)[0]}`]),
);

it.each([
  [
    'the same rule in the other directory',
    { '/lib/udev/rules.d/1.rules': 'x' },
    { '/usr/lib/udev/rules.d/1.rules': 'y' },
  ],
  ['the same setting', { '/etc/sysctl.d/9.conf': 'a=1' }, { '/etc/sysctl.d/9.conf': 'a=1' }],
  ['a unit that a boot would not start', {}, { '/usr/lib/systemd/system/rare.service': '' }],
  ['a hidden file', {}, { '/etc/cron.d/.placeholder': '' }],
] as const)('%s is not listed', (_what, host, image) => expect(missing(host, image)).toEqual([]));

it('a unit that a boot would start is listed', () =>
  expect(
    missing(
      {},
      {
        '/usr/lib/systemd/system/web.service': '',
        '/etc/systemd/system/multi-user.target.wants/web.service': '',
      },
    ),
  ).toEqual(['system units /usr/lib/systemd/system/web.service']));

it('packages are named, files of nobody are warnings', () => {
  const file = { kind: 'udev rules', path: '/etc/udev/rules.d/1.rules' };
  expect(judgeHostOnly(undefined).applies).toBe(false);
  expect(judgeHostOnly([])).toMatchObject({ words: 'the host has all that works only there', findings: [] });
  expect(judgeHostOnly([{ ...file, owner: 'libsane1' }])).toMatchObject({
    words: 'udev rules of these packages work only if the host has them, too: libsane1',
    findings: [],
  });
  expect(judgeHostOnly([{ ...file, owner: undefined }]).findings).toMatchObject([
    {
      level: 'warning',
      what: expect.stringMatching(/"\/etc\/udev\/rules.d\/1.rules" of the generation has no effect/),
    },
  ]);
});

const v = (...versions: string[]) => new Map(versions.length > 0 ? [['NVIDIA', versions]] : []);
it.each([
  ['the same version', { loaded: v('1.2.3'), tree: v('1.2.3'), installed: v('1.2.3') }, []],
  ['another one', { loaded: v('1.2.3'), tree: v('1.2.4'), installed: v('1.2.3') }, ['mayfly update']],
  [
    'that of the host, which was not restarted',
    { loaded: v('1.2.3'), tree: v('1.2.4'), installed: v('1.2.4') },
    ['reboot'],
  ],
  [
    'another one than a host without libraries',
    { loaded: v('1.2.3'), tree: v('1.2.4'), installed: v() },
    ['mayfly update'],
  ],
  ['no libraries', { loaded: v('1.2.3'), tree: v(), installed: v() }, []],
  ['no module', { loaded: v(), tree: v('1.2.3'), installed: v() }, []],
  ['a tree that is not mounted', undefined, []],
])('doctor compares the generation with the running kernel: %s', (_what, match, fixes) =>
  expect(judgeKernelMatch(match).findings.map(f => f.fix)).toEqual(fixes),
);
