/**
 * How a desktop starts: the session wrapper and the file in Xsession.d, as display managers run them. In place of schroot
 * stands a program that has the script of the inside find the files of a generation, which is a directory here.
 */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

let dir: string;
let wrapper: string;
const uid = process.getuid?.();

const write = (path: string, text: string, mode = 0o644): void => {
  fs.mkdirSync(path.replace(/\/[^/]*$/, ''), { recursive: true });
  fs.writeFileSync(path, text, { mode });
};
const program = (path: string, text: string): void => write(path, `#!/bin/sh\n${text}\n`, 0o755);
/** A text of ours, with the files of the host in our directory. */
const onHost = (file: string): string =>
  fs
    .readFileSync(file, 'utf8')
    .replaceAll('/etc/', `${dir}/host/etc/`)
    .replaceAll('/usr/lib/mayfly/hooks/session-wrapper', wrapper)
    .replaceAll('run=/run/mayfly', `run=${dir}/run entries=''`);

beforeAll(() => {
  dir = fs.mkdtempSync(`${tmpdir()}/mayfly-wrapper-`);
  wrapper = `${dir}/session-wrapper`;
});
afterAll(() => fs.rmSync(dir, { recursive: true }));

beforeEach(() => {
  for (const name of fs.readdirSync(dir)) fs.rmSync(`${dir}/${name}`, { recursive: true });
  write(`${dir}/run/users/${uid}/session`, 'u1-0\n');
  write(wrapper, onHost('hooks/session-wrapper').replace('entries=/', 'unused=/'), 0o755);
  write(`${dir}/00mayfly`, onHost('xsession.d/00mayfly'));
  write(`${dir}/host/etc/mayfly/enabled`, '');
  program(
    `${dir}/bin/schroot`,
    `while [ "$1" != -- ]; do shift; done
    [ "$2 $3" = "/bin/sh -c" ] || exit 70
    script=$(printf '%s\n' "$4" | sed 's,${dir}/host/,${dir}/image/,g'); shift 4
    exec /bin/sh -c "$script" "$@"`,
  );
  program(`${dir}/bin/zenity`, `printf '%s\\n' "$@" >${dir}/shown; sleep 0.6`);
  program(`${dir}/bin/busctl`, 'true');
  program(`${dir}/bin/logger`, `printf '%s\\n' "$*" >>${dir}/logged`);
  program(`${dir}/bin/mayfly`, 'echo "alice gets a session; on failure: refuse"');
  program(`${dir}/image/etc/X11/Xsession`, 'exec echo "Xsession $#: $1"');
});

interface Options {
  readonly env?: Readonly<Record<string, string>>;
  readonly umask?: string;
}

function run(args: readonly string[], { env = {}, umask = '022' }: Options = {}) {
  const own = { PATH: `${dir}/bin:/usr/bin:/bin`, HOME: dir, SHELL: '/bin/sh', ...env };
  const argv = ['-c', `umask ${umask}; exec "$@"`, 'sh', ...args];
  const { status, stdout, stderr } = spawnSync('/bin/sh', argv, { env: own, encoding: 'utf8', cwd: '/' });
  return { code: status, out: stdout, err: stderr };
}

const inside = (...command: string[]) => run([wrapper, ...command]);

describe('a desktop for X', () => {
  it.each<[string[], string]>([
    [[], 'Xsession 0: '],
    [['startxfce4'], 'Xsession 1: startxfce4'],
    [['startxfce4 --with "two words"'], 'Xsession 1: startxfce4 --with "two words"'],
    [['startxfce4', '--one'], 'Xsession 1: startxfce4 --one'],
    [['W startxfce4'], 'Xsession 1: startxfce4'],
    [['W --xsession startxfce4 -a'], 'Xsession 1: startxfce4 -a'],
    [['W --xsession default'], 'Xsession 1: default'],
    [['W --xsession failsafe'], 'Xsession 1: failsafe'],
  ])('is started by the Xsession of the generation: %j', (args, said) => {
    const real = args.map(a => a.replace('W', wrapper));
    expect(inside('--xsession', ...real)).toMatchObject({ code: 0, out: `${said}\n` });
  });

  it.each<[string[], string]>([
    [['desk --a b'], 'desk: --a b\n'],
    [['default'], 'manager: \n'],
    [[], 'manager: \n'],
    [['failsafe'], 'terminal: \n'],
  ])('is started as it is by a generation without Xsession: %j', (args, said) => {
    fs.rmSync(`${dir}/image/etc/X11/Xsession`);
    for (const [name, word] of Object.entries({
      desk: 'desk',
      'x-window-manager': 'manager',
      'x-terminal-emulator': 'terminal',
    }))
      program(`${dir}/bin/${name}`, `echo "${word}: $*"`);
    expect(inside('--xsession', ...args)).toMatchObject({ code: 0, out: said });
  });

  it.each([true, false])(
    'of x2go, which has its command in a variable, is started with Xsession: %s',
    has => {
      program(`${dir}/image/etc/X11/Xsession`, 'exec $STARTUP');
      if (!has) fs.rmSync(`${dir}/image/etc/X11/Xsession`);
      program(`${dir}/bin/desk`, 'echo "desk: $*, $FROM"');
      // Its Xsession has no arguments, and reads the files in /etc/X11/Xsession.d as the one of X11 does.
      program(`${dir}/x2go-Xsession`, `. ${dir}/00mayfly; echo host`);
      const env = { STARTUP: '/usr/bin/env FROM=x2go desk --a' };
      expect(run([`${dir}/x2go-Xsession`], { env })).toMatchObject({ code: 0, out: 'desk: --a, x2go\n' });
    },
  );

  it('that only the host has is for staff', () => {
    const r = inside('--xsession', `${wrapper} --xsession --host desk`);
    expect(r).toMatchObject({ code: 1, out: '' });
    expect(r.err).toMatch(/for staff only/);
  });
});

describe('another desktop', () => {
  it('is started as it is, with its arguments', () => {
    expect(inside('sh', '-c', 'echo "$#: $1|$2"', 'sh', 'a b', 'c').out).toBe('2: a b|c\n');
  });
});

describe('a login shell', () => {
  it.each([
    [['--login', 'sh', '-c', 'echo "$# $1 $FROM"', 'sh', 'a b'], '1 a b profile\n'],
    [['--login', '--xsession', 'desk -a'], 'Xsession 1: desk -a\n'],
  ])('reads the profile before the desktop: %j', (args, said) => {
    write(`${dir}/.profile`, 'export FROM=profile\n');
    expect(inside(...args).out).toBe(said);
  });
  it('with a mistake in the profile says that nothing has started', () => {
    write(`${dir}/.profile`, 'if [ -n x ; then\n');
    expect(run([wrapper, '--login', 'echo', 'started'], { env: { DISPLAY: ':0' } })).toMatchObject({
      ...{ code: 2, out: '' },
      err: expect.stringMatching(/Syntax error.*\n.*(MAYFLY-DESKTOP)/),
    });
    expect(fs.readFileSync(`${dir}/shown`, 'utf8')).toMatch(
      /^Login failed: the desktop ended as soon as it had started, with exit code 2\.$/m,
    );
  });
});

describe('the settings of a login', () => {
  const show = (name: string): string => `eval "echo \\"\\\${${name}-none}\\""`;
  const environment = `# comment
export A=1
B="two words" # why
  C='x'\t
D=
1bad=x
PATH=/image/bin:/usr/bin:/bin`;
  it.each<[string, string, string, Record<string, string>, string]>([
    ['is set by the generation', '', environment, {}, 'A 1'],
    ['may be quoted', '', environment, {}, 'B two words'],
    ['may be in single quotes', '', environment, {}, 'C x'],
    ['may be empty', '', environment, { D: 'x' }, 'D '],
    ['takes the place of the host’s', 'A=2', environment, { A: '2' }, 'A 1'],
    ['takes the place of the login’s', '', environment, { A: '3' }, 'A 1'],
    ['of the host alone is gone', 'ONLY=host', environment, { ONLY: 'host' }, 'ONLY none'],
    ['of the login alone stays', 'ONLY=host', environment, { ONLY: 'mine' }, 'ONLY mine'],
    ['does not replace the display', '', 'DISPLAY=:9\nHOME=/nowhere', { DISPLAY: ':0' }, 'DISPLAY :0'],
    ['does not replace the seat', '', 'XDG_SEAT=seat9', { XDG_SEAT: 'seat0' }, 'XDG_SEAT seat0'],
    ['changes the path', '', environment, {}, 'PATH /image/bin:/usr/bin:/bin'],
    [
      'has the default path without any',
      'PATH=X',
      '',
      {},
      'PATH /usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games',
    ],
    ['has the language of the generation', 'LANG=C', 'LANG=C.UTF-8', { LANG: 'C' }, 'LANG C.UTF-8'],
    ['has no language of the host', 'LC_TIME=C', '', { LC_TIME: 'C' }, 'LC_TIME none'],
    [
      'has the language chosen at the greeter',
      'LANG=C',
      'LANG=C.UTF-8',
      { LANG: 'C', GDM_LANG: 'C' },
      'LANG C',
    ],
    [
      'unless the generation lacks it',
      '',
      'LANG=C.UTF-8',
      { LANG: 'xx_YY', GDM_LANG: 'xx_YY' },
      'LANG C.UTF-8',
    ],
  ])('%s', (_, host, image, env, expected) => {
    const name = expected.split(' ')[0] ?? '';
    const path = `${dir}/bin:/usr/bin:/bin`;
    write(`${dir}/host/etc/environment`, host.replace('PATH=X', `PATH=${path}`));
    write(`${dir}/image/etc/environment`, image);
    expect(`${name} ${run([wrapper, 'sh', '-c', show(name)], { env }).out}`).toBe(`${expected}\n`);
  });

  it('are those of the locale, too', () => {
    write(`${dir}/host/etc/default/locale`, 'LANG=C\nLC_PAPER=C\n');
    write(`${dir}/image/etc/default/locale`, 'LANG="C.UTF-8"\n');
    const r = run([wrapper, 'sh', '-c', 'echo "$LANG $(printenv LC_PAPER || echo none)"'], {
      env: { LANG: 'C', LC_PAPER: 'C' },
    });
    expect(r.out).toBe('C.UTF-8 none\n');
  });

  it('runs nothing of what a file says', () => {
    write(`${dir}/host/etc/environment`, 'A$(touch x)=1\nB=$(touch x)\n`touch x`=1\n');
    write(
      `${dir}/image/etc/environment`,
      `A=$(touch ${dir}/x)\nB=\`touch ${dir}/x\`\nC='";touch ${dir}/x;"'\n`,
    );
    expect(run([wrapper, 'sh', '-c', 'echo "$A"'], { env: { B: '$(touch x)' } }).out).toBe(
      `$(touch ${dir}/x)\n`,
    );
    expect(fs.existsSync(`${dir}/x`)).toBe(false);
  });

  const own = spawnSync('sh', ['-c', '[ "$(id -un)" = "$(id -gn)" ]']).status === 0;
  it.each([
    ['none', '', '077', '0022'],
    ['pam_umask', '', '077', '0022'],
    ['pam_umask', 'UMASK 027\n', '022', '0027'],
    ['pam_umask', 'UMASK\t\t0077\n', '022', '0077'],
    ['pam_umask', 'UMASK 022\nUSERGROUPS_ENAB yes\n', '022', own ? '0002' : '0022'],
    ['pam_umask', 'UMASK 022\nUSERGROUPS_ENAB no\n', '077', '0022'],
    ['pam_umask', 'UMASK nonsense\n', '077', '0022'],
    ['none', 'UMASK 077\n', '027', '0022'],
  ])('a umask: %s, "%s", called with %s', (module, defs, umask, expected) => {
    write(`${dir}/image/etc/pam.d/common-session`, `# pam_umask\nsession optional ${module}.so\n`);
    write(`${dir}/image/etc/login.defs`, defs);
    expect(run([wrapper, 'sh', '-c', 'umask'], { umask }).out).toBe(`${expected}\n`);
  });

  it.each([
    ['/bin/sh', '/bin/sh'],
    ['/usr/bin/no-such-shell', '/bin/bash'],
    ['', '/bin/bash'],
  ])('a shell: %s', (SHELL, expected) => {
    expect(run([wrapper, 'sh', '-c', 'echo "$SHELL"'], { env: { SHELL } }).out).toBe(`${expected}\n`);
  });

  it('a home directory that is missing', () => {
    expect(run([wrapper, 'sh', '-c', 'pwd'], { env: { HOME: '/no/such' } }).out).toBe('/\n');
  });
});

describe('a desktop that ends', () => {
  const shown = (): string => (fs.existsSync(`${dir}/shown`) ? fs.readFileSync(`${dir}/shown`, 'utf8') : '');
  it.each([
    ['at once', 'exit 3', 3, /ended as soon as it had started, with exit code 3\.[\s\S]*MAYFLY-DESKTOP/],
    [
      'because a program is missing',
      'exec no-such-program',
      127,
      /a program is missing[\s\S]*MAYFLY-DESKTOP/,
    ],
    ['with nothing done', 'true', 70, /Xsession ended without starting a desktop\./],
    ['with nothing done, by exit', 'exit 0', 70, /without starting/],
    ['by a logout', 'exec true', 0, /^$/],
    ['by a crash', 'kill -SEGV $$', 139, /exit code 139/],
    ['because somebody kills it', 'kill -KILL $$', 137, /^$/],
    ['because somebody ends it', 'kill -TERM $$', 143, /^$/],
  ])('%s', (_, text, code, words) => {
    program(`${dir}/image/etc/X11/Xsession`, text);
    const r = run([wrapper, '--xsession', 'desk'], { env: { DISPLAY: ':0' } });
    expect(r.code).toBe(code);
    expect(shown()).toMatch(words);
    expect(fs.existsSync(`${dir}/logged`)).toBe(shown() !== '');
    expect(/MAYFLY-DESKTOP/.test(r.err)).toBe(shown() !== '');
  });

  it('tells what the desktop has said last, if that is of this login', () => {
    program(`${dir}/image/etc/X11/Xsession`, 'exec >>~/.xsession-errors 2>&1; exec ssh-agen desk');
    run([wrapper, '--xsession', 'desk'], { env: { DISPLAY: ':0' } });
    expect(shown()).toMatch(/ssh-agen: not found/);
    fs.utimesSync(`${dir}/.xsession-errors`, 1, 1);
    program(`${dir}/image/etc/X11/Xsession`, 'exit 1');
    run([wrapper, '--xsession', 'desk'], { env: { DISPLAY: ':0' } });
    expect(shown()).not.toMatch(/ssh-agen/);
  });

  it('takes the next program if a window cannot be shown', () => {
    program(`${dir}/bin/zenity`, 'exit 1');
    program(`${dir}/bin/xmessage`, `echo "$*" >${dir}/shown; sleep 0.6`);
    run([wrapper, 'false'], { env: { DISPLAY: ':0' } });
    expect(shown()).toMatch(/MAYFLY-DESKTOP/);
  });

  it.each(['SIGTERM', 'SIGHUP', 'SIGINT'] as const)(
    'gets %s, and its exit status is passed on',
    async signal => {
      const text = `trap "echo caught >${dir}/caught; exit 9" ${signal.slice(3)}; echo ready; i=0; while [ $i -lt 400 ]; do i=$((i+1)); sleep 0.05; done`;
      const child = spawn(wrapper, ['sh', '-c', text], {
        env: { PATH: `${dir}/bin:/usr/bin:/bin`, HOME: dir, DISPLAY: ':0' },
      });
      await new Promise(yes => child.stdout.once('data', yes));
      child.kill(signal);
      expect(await new Promise(yes => child.once('exit', yes))).toBe(9);
      expect(fs.existsSync(`${dir}/caught`)).toBe(true);
      expect(shown()).toBe('');
    },
  );

  it('does not inherit signals that are ignored', () => {
    const ignored = "sed -n 's/^SigIgn:.*\\(....\\)$/\\1/p' /proc/self/status";
    expect(inside('sh', '-c', ignored).out).toBe(run(['sh', '-c', ignored]).out);
  });
});

describe('the cookie of X', () => {
  const showCookie = ['sh', '-c', 'cat "$XAUTHORITY"; stat -c " %a" "$XAUTHORITY"; echo "$XAUTHORITY"'];
  /** Inside, the directory "hidden" of the host is another one. */
  const hide = (): void => {
    const real = fs.readFileSync(`${dir}/bin/schroot`, 'utf8');
    const hidden = real.replace(
      '; shift 4',
      '; [ "$XAUTHORITY" != $HOME/hidden/x ] || export XAUTHORITY=/nowhere/x\nshift 4',
    );
    write(`${dir}/bin/schroot`, hidden, 0o755);
  };
  const env = { XDG_RUNTIME_DIR: '', DISPLAY: ':0', XAUTHORITY: '' };

  it('goes along where the session does not have its place', () => {
    hide();
    write(`${dir}/hidden/x`, 'cookie');
    fs.mkdirSync(`${dir}/user`);
    const r = run([wrapper, ...showCookie], {
      env: { ...env, XDG_RUNTIME_DIR: `${dir}/user`, XAUTHORITY: `${dir}/hidden/x` },
    });
    expect(r.out).toBe(`cookie 600\n${dir}/user/mayfly-xauthority-0\n`);
  });
  it('stays where it is if the session has it', () => {
    write(`${dir}/hidden/y`, 'cookie', 0o600);
    fs.mkdirSync(`${dir}/user`);
    const r = run([wrapper, ...showCookie], {
      env: { ...env, XDG_RUNTIME_DIR: `${dir}/user`, XAUTHORITY: `${dir}/hidden/y` },
    });
    expect(r.out).toBe(`cookie 600\n${dir}/hidden/y\n`);
    expect(fs.readdirSync(`${dir}/user`)).toEqual([]);
  });
  it.each(['', '/nowhere/x'])('that is nowhere does not keep the desktop: %j', XAUTHORITY => {
    expect(run([wrapper, 'echo', 'there'], { env: { ...env, XAUTHORITY } }).out).toBe('there\n');
  });
});

describe('a session that cannot be entered', () => {
  const shown = (): string => (fs.existsSync(`${dir}/shown`) ? fs.readFileSync(`${dir}/shown`, 'utf8') : '');
  it.each([
    [
      'PAM refuses the account',
      'echo "E: PAM error: Permission denied" >&2; exit 1',
      /PAM error: Permission denied/,
    ],
    [
      'PAM refuses the session',
      'echo "E: PAM error: Cannot make an entry" >&2; exit 0',
      /Cannot make an entry/,
    ],
    [
      'a file is wrong',
      'echo "W: x" >&2; echo "E: /x/sbuild: line 2: Bad" >&2; exit 1',
      /: \/x\/sbuild: line 2: Bad/,
    ],
    ['it fails in other words', 'echo "cannot load a library" >&2; exit 127', /cannot load a library/],
    ['it fails without a word', 'exit 9', /schroot ended with exit code 9/],
    ['it dies', 'kill -KILL $$', /schroot was killed/],
  ])('is shown with the words of schroot: %s', (_, text, words) => {
    program(`${dir}/bin/schroot`, text);
    const r = run([wrapper, '--xsession', 'desk'], { env: { DISPLAY: ':0' } });
    expect(r).toMatchObject({ code: 1, out: '' });
    for (const said of [shown(), r.err, fs.readFileSync(`${dir}/logged`, 'utf8')]) {
      expect(said).toMatch(words);
      expect(said).toMatch(/your session cannot be entered: .*\(MAYFLY-NO-ENTRY\)/);
    }
  });

  it('is one that can be if schroot only warns, or PAM fails at its end', () => {
    const real = fs.readFileSync(`${dir}/bin/schroot`, 'utf8');
    write(
      `${dir}/bin/schroot`,
      real.replace('\n', '\necho "W: odd" >&2; trap "echo E: at the end >&2" EXIT\n').replaceAll('exec ', ''),
      0o755,
    );
    expect(inside('--xsession', 'desk')).toMatchObject({ code: 0, out: 'Xsession 1: desk\n' });
  });
});

describe('the message at login', () => {
  it('may be longer than the kernel lets an argument be', () => {
    write(`${dir}/host/etc/mayfly/notice/xx`, `${'x'.repeat(78)}\n`.repeat(2500));
    expect(inside('--xsession', 'desk')).toMatchObject({ code: 0, out: 'Xsession 1: desk\n' });
  });

  /** A home directory in memory is that of a guest. */
  const memory = fs.readFileSync('/proc/self/mounts', 'utf8').match(/ (\/dev\/shm|\/run) tmpfs /)?.[1];
  it.skipIf(!memory)('tells guests something else', () => {
    write(`${dir}/host/etc/mayfly/notice/en`, 'Title\nfor others\n');
    write(`${dir}/host/etc/mayfly/notice-guest/en`, 'Title\nfor guests\n');
    program(
      `${dir}/bin/notify-send`,
      `shift 3; echo "$2" >${dir}/said.part; mv ${dir}/said.part ${dir}/said`,
    );
    const text = `i=0; while [ ! -e ${dir}/said ] && [ $i -lt 60 ]; do i=$((i+1)); sleep 0.1; done`;
    program(`${dir}/bin/desk`, text);
    program(`${dir}/image/etc/X11/Xsession`, 'exec desk');
    for (const [home, who] of [
      [dir, 'others'],
      [memory ?? '', 'guests'],
    ] as const) {
      fs.rmSync(`${dir}/said`, { force: true });
      run([wrapper, '--xsession', 'desk'], { env: { HOME: home } });
      expect(fs.readFileSync(`${dir}/said`, 'utf8')).toBe(`for ${who}\n`);
    }
  });
  it.each([
    ['de_DE.UTF-8', 'Titel|Zeile 1\nZeile 2'],
    ['fr_FR', 'Title|Text'],
    ['es_ES', undefined], // an empty file disables it in that language
  ])('is in the language that Xsession has set: %s', (language, expected) => {
    for (const [name, text] of Object.entries({
      de: 'Titel\nZeile 1\nZeile 2\n',
      en: 'Title\nText\n',
      es: '',
    }))
      write(`${dir}/host/etc/mayfly/notice/${name}`, text);
    program(
      `${dir}/bin/notify-send`,
      `shift 3; echo "$1|$2" >${dir}/said.part; mv ${dir}/said.part ${dir}/said`,
    );
    const text = `i=0; while [ ! -e ${dir}/said ] && [ $i -lt 60 ]; do i=$((i+1)); sleep 0.1; done`;
    program(`${dir}/bin/desk`, text);
    program(`${dir}/image/etc/X11/Xsession`, `export LANG=${language}; exec desk`);
    inside('--xsession', 'desk');
    const said = fs.existsSync(`${dir}/said`) ? fs.readFileSync(`${dir}/said`, 'utf8').trim() : undefined;
    expect(said).toBe(expected);
  });
});

describe('the file in Xsession.d', () => {
  const shells = ['sh', 'bash', 'zsh'].filter(s => spawnSync(s, ['-c', 'true']).status === 0);
  const source = (shell: string, ...args: string[]) =>
    run([shell, '-c', `. ${dir}/00mayfly; echo "goes on $#: $1"`, shell, ...args]);
  const scope = (text: string): void => program(`${dir}/bin/mayfly`, `echo "${text}"`);

  it.each(shells)('begins with the session, under %s', shell => {
    expect(source(shell, 'desk --a').out).toBe('Xsession 1: desk --a\n');
    expect(source(shell).out).toBe('Xsession 0: \n');
  });

  it.each(shells)('goes on for users who belong on the host, under %s', shell => {
    fs.rmSync(`${dir}/run/users/${uid}/session`);
    scope('alice gets the host');
    program(`${dir}/bin/desk`, 'true');
    const said = (...args: string[]) => source(shell, ...args).out.replaceAll(wrapper, 'W');
    expect(said()).toBe('goes on 0: \n');
    expect(said('desk --a')).toBe('goes on 1: desk --a\n');
    expect(said(`${wrapper} desk --a`)).toBe('goes on 1: desk --a\n');
    expect(said(`${wrapper} --xsession --host desk --a`)).toBe('goes on 1: desk --a\n');
    expect(said(`${wrapper} --xsession default`)).toBe('goes on 1: default\n');
    expect(said(`${wrapper} --xsession onlyinside`)).toBe('goes on 1: W --xsession onlyinside\n');
    // What Xsession then starts.
    expect(run([wrapper, '--xsession', 'onlyinside']).err).toMatch(/"onlyinside" is not installed/);
  });

  it('refuses users in scope without a session, and says why', () => {
    fs.rmSync(`${dir}/run/users/${uid}/session`);
    write(`${dir}/run/users/${uid}/reason`, 'the pool is full (MAYFLY-FULL)\n');
    const r = source('sh', 'desk');
    expect(r).toMatchObject({ code: 1, out: '' });
    expect(r.err).toMatch(/^mayfly: the pool is full \(MAYFLY-FULL\)/);
  });

  it.each([
    ['nothing is enabled', (): void => fs.rmSync(`${dir}/host/etc/mayfly/enabled`)],
    ['inside', (): void => write(`${dir}/host/etc/mayfly-session`, '')],
    ['the package is removed', (): void => fs.rmSync(wrapper)],
  ])('does nothing: %s', (_, prepare) => {
    prepare();
    expect(source('sh', 'desk --a').out).toBe('goes on 1: desk --a\n');
  });

  it('gives a desktop of gdm, which starts the entry itself, the Xsession of the host if the user belongs there', () => {
    fs.rmSync(`${dir}/run/users/${uid}/session`);
    scope('alice gets the host');
    program(`${dir}/host/etc/X11/Xsession`, `set -- "$@"; . ${dir}/00mayfly; echo "host $#: $1"`);
    program(`${dir}/bin/desk`, 'true');
    expect(inside('--xsession', '--host', 'desk', '-a').out).toBe('host 1: desk -a\n');
    expect(inside('--xsession', 'default').out).toBe('host 1: default\n');
  });
});
