/**
 * What a user can do with the variables of PAM: make the loader, a shell, Perl or Node run other code, or write a file.
 * Each variable that can leaves a file in `proofs`.
 */
import * as fs from 'node:fs';

/** A library of glibc that writes a file when it is loaded. */
function writingLibrary(): string {
  const name = 'libpcprofile.so';
  const found = fs
    .readdirSync('/usr/lib')
    .map(triplet => `/usr/lib/${triplet}/${name}`)
    .find(file => fs.existsSync(file));
  if (found === undefined) throw new Error(`${name} of glibc is missing`);
  return found;
}

export function hostileVariables(proofs: string, tools: string): Record<string, string> {
  const file = (name: string): string => `${proofs}/${name}`;
  const loader = {
    LD_PRELOAD: writingLibrary(),
    LD_AUDIT: writingLibrary(),
    PCPROFILE_OUTPUT: file('library'),
    LD_LIBRARY_PATH: tools,
    LD_DEBUG: 'files',
    LD_DEBUG_OUTPUT: file('ld'),
    LD_PROFILE: 'libc.so.6',
    LD_PROFILE_OUTPUT: proofs,
    LD_ORIGIN_PATH: tools,
    LD_BIND_NOW: '1',
  };
  // Static programs contain the C library, too.
  const libc = {
    GLIBC_TUNABLES: 'glibc.malloc.check=3',
    MALLOC_TRACE: file('malloc'),
    GCONV_PATH: tools,
    LOCPATH: tools,
    NLSPATH: `${tools}/%N`,
    LANG: 'xx_XX.EVIL',
    LC_ALL: 'xx_XX.EVIL',
    TZ: `:${tools}/zone`,
    TZDIR: tools,
    HOSTALIASES: `${tools}/hosts`,
  };
  const shells = {
    ENV: `${tools}/env.sh`,
    BASH_ENV: `${tools}/bash.sh`,
    'BASH_FUNC_true%%': `() { echo function >${file('function')}; }`,
    SHELLOPTS: 'xtrace',
    PS4: `$(echo ps4 >${file('ps4')})`,
    PS1: `$(echo ps1 >${file('ps1')})`,
    IFS: '/ae',
    // The last directories ask shells that know them for functions, and to look there before what is built in.
    PATH: `${tools}:${tools}%func:%builtin`,
    CDPATH: tools,
    OPTIND: '7',
    LINENO: `$(echo lineno >${file('lineno')})`,
    HISTFILE: file('history'),
    MAIL: `${tools}/env.sh`,
    HOME: tools,
    PWD: tools,
    TMPDIR: proofs,
    XDG_CONFIG_HOME: tools,
  };
  const interpreters = {
    NODE_OPTIONS: `--require=${tools}/evil.cjs`,
    NODE_PATH: tools,
    NODE_V8_COVERAGE: file('coverage'),
    NODE_REDIRECT_WARNINGS: file('warnings'),
    NODE_EXTRA_CA_CERTS: `${tools}/certificates`,
    OPENSSL_CONF: `${tools}/openssl.cnf`,
    PERL5OPT: '-MEvil',
    PERL5LIB: tools,
    PERLLIB: tools,
    PERL5DB: `BEGIN { open F, ">${file('perl5db')}" }`,
    PYTHONSTARTUP: `${tools}/evil.py`,
  };
  // Names that PAM itself gives to the hook, or that mean something to the hooks.
  const ours = { PPID: '1', USER: 'root', PAM_USER: 'root', PAM_TYPE: 'auth', XAUTHORITY: tools };
  return { ...loader, ...libc, ...shells, ...interpreters, ...ours };
}

/** The files that the variables name. */
export function writeHostileTools(proofs: string, tools: string): void {
  fs.mkdirSync(tools);
  const prove = (by: string): string => `echo ${by} >>${proofs}/${by}\n`;
  const program = `#!/bin/busybox sh\n${prove('path')}`;
  // Programs that hooks could look for, and commands that are built into shells.
  for (const name of [
    'node',
    'perl',
    'env',
    'sh',
    'sleep',
    'busybox',
    'logger',
    '[',
    'cd',
    'echo',
    'test',
    'true',
  ])
    fs.writeFileSync(`${tools}/${name}`, program, { mode: 0o755 });
  fs.writeFileSync(`${tools}/env.sh`, prove('env'));
  fs.writeFileSync(`${tools}/bash.sh`, prove('bash'));
  fs.writeFileSync(`${tools}/evil.cjs`, `require('fs').writeFileSync('${proofs}/node', '')\n`);
  fs.writeFileSync(`${tools}/Evil.pm`, `BEGIN { open F, '>', '${proofs}/perl' } 1;\n`);
}

/** A hook as it must not be: each kind of program runs in the environment that the hook gets. */
export const CARELESS_HOOK = `#!/bin/bash
true
/bin/sh -i +m -c :
/usr/bin/perl -e 1
/usr/bin/node -e 1
sleep 0
exit 0
`;

/**
 * The variables in two parts, and what each makes a careless hook leave. In one environment, the loader would give up on
 * the auditing library before the program starts.
 */
export function splitHostile(all: Readonly<Record<string, string>>): [Record<string, string>, string[]][] {
  const { LD_AUDIT = '', PCPROFILE_OUTPUT = '', ...rest } = all;
  const proofs = [
    'bash',
    'coverage',
    'env',
    'function',
    'ld',
    'libc.so.6.profile',
    'library',
    'node',
    'path',
    'perl',
  ];
  return [
    [{ ...rest, PCPROFILE_OUTPUT }, proofs],
    [{ LD_AUDIT, PCPROFILE_OUTPUT }, ['library']],
  ];
}

/** What is in `proofs`, by kind: the files of the loader have the number of the process in their names. */
export function foundProofs(proofs: string): string[] {
  return [...new Set(fs.readdirSync(proofs).map(name => name.replace(/^ld\.\d+$/, 'ld')))].sort();
}
