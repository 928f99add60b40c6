/** Windows on a person's screen: what their processes get, for real. Only root can start them as somebody else. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { onBus, onScreen, type Person, type Viewer } from '../../src/linux/display.ts';
import { execaRunner } from '../../src/linux/execa-runner.ts';
import { leanRunner } from '../../src/linux/lean-runner.ts';
import { isRootOnDesktop } from '../world.ts';

const UID = 54_321; // nobody's
let dir: string;
let cookie: string;

const newOut = (): void => {
  fs.rmSync(`${dir}/out`, { recursive: true, force: true });
  fs.mkdirSync(`${dir}/out`);
  fs.chmodSync(`${dir}/out`, 0o1777);
};
beforeEach(newOut);

beforeAll(() => {
  dir = fs.mkdtempSync(`${tmpdir()}/mayfly-display-`);
  fs.chmodSync(dir, 0o711);
  cookie = `${dir}/cookie`;
  fs.writeFileSync(cookie, 'secret\0\u00ff', { mode: 0o600 });
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

const show = (viewer: Viewer, script: string, seconds = 20) =>
  onScreen({ display: ':7', viewer }, ['sh', '-c', script, 'sh', `${dir}/out`, cookie], seconds);

/** What the program of a window writes into its files, by name. */
const REPORT = `cd "$1"
id -u >ids; id -g >>ids; id -G >>ids
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/self/status >status
tr '\\0' '\\n' </proc/$$/environ | sort >environment
for fd in /proc/$$/fd/*; do echo "$fd"; readlink "$fd"; done >files
cat -- "$XAUTHORITY" >cookie
cat -- "$2" >original
pwd >directory; cat /proc/$$/stat | cut -d' ' -f6,7 >terminal
`;
const report = (name: string): string => fs.readFileSync(`${dir}/out/${name}`, 'utf8');

describe.runIf(process.getuid?.() === 0).each([
  ['of hooks', leanRunner],
  ['of the service', execaRunner],
])('a window, with the runner %s,', (_, runner) => {
  it.each([
    ['a person', { uid: UID, gid: UID, cookie: '/nonexistent' }, UID, '/nonexistent', ''],
    [
      'nobody',
      {
        get copyOf() {
          return cookie;
        },
      },
      65_534,
      '/proc/self/fd/3',
      'secret\0\u00ff',
    ],
  ] as const)('is shown by %s, who gets nothing of root', async (_, viewer, uid, authority, copy) => {
    await runner.run(show(viewer, REPORT), Number.POSITIVE_INFINITY);
    expect(report('ids')).toBe(`${uid}\n`.repeat(3));
    expect(report('status')).toMatch(
      new RegExp(`^Uid:(\\t${uid}){4}\\nGid:(\\t${uid}){4}\\nGroups:\\t *\\n`),
    );
    expect(report('status').match(/^Cap\w+:\t0+$/gm)).toHaveLength(5);
    expect(report('status')).toMatch(/^NoNewPrivs:\t1$/m);
    expect(report('environment').trim().split('\n')).toEqual([
      'DISPLAY=:7',
      'HOME=/',
      'LC_ALL=C.UTF-8',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      `XAUTHORITY=${authority}`,
    ]);
    const files = [...report('files').matchAll(/^\/proc\S+\/(\d+)\n(?!\/dev\/null$)(.+)$/gm)]
      .filter(m => !m[2]?.startsWith(`${dir}/out/`)) // of the report itself
      .map(m => `${m[1]} ${m[2]}`);
    const unnamed = expect.stringMatching(/^3 \/run\/#\d+ \(deleted\)$/);
    expect(files).toEqual(copy === '' ? [] : [unnamed]);
    expect(report('cookie')).toBe(copy);
    expect(report('original')).toBe('');
  });
});

describe.runIf(process.getuid?.() === 0)('the processes of a window', () => {
  it('end in time, even if the person stops them', async () => {
    const person = { uid: UID, gid: UID, cookie: '/nonexistent' };
    const command = show(person, 'trap "" TERM; echo $$ >"$1/pid"; kill -STOP $$; sleep 20; sleep 20', 1);
    const { code } = await leanRunner.run(command, Number.POSITIVE_INFINITY);
    expect(code).toBe(255); // SIGKILL
    const stat = `/proc/${report('pid').trim()}/stat`;
    const isDead = (): boolean => !fs.existsSync(stat) || fs.readFileSync(stat, 'utf8').includes(') Z ');
    await expect.poll(isDead).toBe(true);
  });

  it('have no terminal, because the person could type on that of root', () => {
    const { file, args } = show({ uid: UID, gid: UID, cookie: '/nonexistent' }, REPORT);
    const words = [file, ...args].map(word => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    const r = spawnSync('script', ['-qec', `${words}; exit $?`, '/dev/null'], { encoding: 'utf8' });
    expect([r.status, r.stdout]).toEqual([0, '']);
    expect(report('terminal')).toMatch(/^\d+ 0$/m); // the session is theirs, without a controlling terminal
  });

  it('join the control group before they are the person’s, or do not start', async () => {
    const group = `${dir}/group`;
    const person = { uid: UID, gid: UID, cookie: '/nonexistent', group };
    const command = show(person, 'echo started >"$1/started"');
    await leanRunner.run(command, Number.POSITIVE_INFINITY);
    expect(fs.existsSync(`${dir}/out/started`)).toBe(false);
    fs.mkdirSync(group, { mode: 0o700 });
    await leanRunner.run(command, Number.POSITIVE_INFINITY);
    expect(fs.readFileSync(`${group}/cgroup.procs`, 'utf8')).toMatch(/^\d+$/);
    expect(report('started')).toBe('started\n');
  });
});

describe('a command that brings root to a desktop', () => {
  const person = { display: ':0', viewer: { uid: 1001, gid: 1001, cookie: '/home/alice/.Xauthority' } };
  const { file, args } = onScreen(person, ['zenity', '--error'], 20);
  const without = (...words: readonly string[]) => ({
    file,
    args: args.filter(word => !words.includes(word)),
  });
  it.each([
    // What showed the message before.
    ['env', { file: 'env', args: ['DISPLAY=:0', 'XAUTHORITY=/run/lightdm/root/:0', 'zenity', '--error'] }],
    ['a program without variables', { file: 'timeout', args: ['20', 'xmessage', 'text'] }],
    [
      'a session bus',
      { file: 'env', args: ['DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1001/bus', 'busctl'] },
    ],
    ['a Wayland socket', { file: 'env', args: ['WAYLAND_DISPLAY=wayland-0', 'weston-info'] }],
    ['the group of root', without('--clear-groups')],
    ['set-user-ID programs', without('--no-new-privs')],
    ['variables of root', without('-i')],
    ['the user ID of root', { file, args: args.map(word => (word === '1001' ? '0' : word)) }],
    ['privileges given up later', { file: 'env', args: ['DISPLAY=:0', ...args] }],
  ])('is found in the world: %s', (_, command) => expect(isRootOnDesktop(command)).toBe(true));
  it('is not a window as a person', () => expect(isRootOnDesktop({ file, args })).toBe(false));
  it('is not a notification as a person, but one as root', () => {
    const { file: program, args: words } = onBus({ uid: 1001, gid: 1001 }, 'title', 'text');
    expect(isRootOnDesktop({ file: program, args: words })).toBe(false);
    expect(isRootOnDesktop({ file: 'busctl', args: words.slice(words.indexOf('busctl') + 1) })).toBe(true);
  });
});

describe('a window', () => {
  it.each([
    ['root', 0, 0],
    ['a record without a user ID', undefined, 1001],
    ['a user ID that is none', Number.NaN, 1001],
    ['a user ID with a fraction', 0.5, 1001],
    ['a user ID that is an option', '-1', 1001],
  ])('is refused for %s', (_, uid, gid) => {
    const viewer = { uid, gid, cookie: '/nonexistent' } as Viewer;
    expect(() => onScreen({ display: ':0', viewer }, ['xmessage'], 1)).toThrow(/as root/);
    expect(() => onBus(viewer as Person, 'title', 'text')).toThrow(/as root/);
  });
});

it('a command on the terminal of root gets nothing of the caller’s environment, such as a desktop, but the terminal', async () => {
  const leads = ['DISPLAY', 'XAUTHORITY', 'WAYLAND_DISPLAY', 'DBUS_SESSION_BUS_ADDRESS', 'XDG_RUNTIME_DIR'];
  const others = ['HOME', 'TMPDIR', 'LANGUAGE', 'SUDO_USER', 'PERL5OPT', 'LD_PRELOAD', 'MAYFLY_OTHER'];
  for (const name of [...leads, ...others, 'LC_ALL', 'TERM', 'COLORTERM']) vi.stubEnv(name, 'x');
  onTestFinished(() => void vi.unstubAllEnvs());
  const unset = [...leads, ...others].map(name => `[ -z "\${${name}+set}" ]`);
  const tests = [...unset, '[ "$LC_ALL" = C.UTF-8 ]', '[ "$TERM$COLORTERM" = xx ]'].join(' && ');
  expect(await execaRunner.runInteractive?.({ file: 'sh', args: ['-c', tests] }, false)).toBe(0);
});
