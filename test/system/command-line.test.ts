/** What only whole commands show of the command line: files that are looked for, and what is done in a dry run. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { forgetUsers, Lab, MAYFLY, sh, user } from './lab.ts';

const WHO = 'mayfly-words';

let lab: Lab;
beforeAll(() => {
  lab = new Lab();
});
afterAll(() => lab.close());

const HOOK = ['hook', 'lightdm', 'start', '--dry-run'];

it.each([
  [['status'], 'typo.toml', 3, /the configuration file "\/.*\/typo\.toml" does not exist/],
  [HOOK, 'typo.toml', 3, /the configuration file "\/.*\/typo\.toml" does not exist/],
  [HOOK, '', 2, /--config needs a file/],
  [HOOK, 'mayfly.toml', 3, /\/conf\.d\/bad\.toml:1: unknown option/],
  [['config'], 'mayfly.toml', 3, /\/conf\.d\/bad\.toml:1: unknown option/],
])('%j --config %j exits with %i', (args, config, code, words) => {
  fs.mkdirSync(`${lab.dir}/conf.d`, { recursive: true });
  fs.writeFileSync(`${lab.dir}/conf.d/bad.toml`, 'nam = 1\n');
  const r = sh('node', [MAYFLY, ...args, '--config', config], { cwd: lab.dir });
  expect(r.err).toMatch(words);
  expect(r.code).toBe(code);
  fs.rmSync(`${lab.dir}/conf.d`, { recursive: true });
});

it.each([
  [['config'], 0, ''],
  [['status'], 0, ''],
  [['recover'], 0, ''],
  [
    ['status', '--config', 'own.toml'],
    3,
    /the configuration file "\/proc\/\d+\/cwd\/own\.toml" does not exist/,
  ],
])('%j in a directory that has been removed exits with %i', (args, code, words) => {
  const own = args.includes('--config') ? [] : ['--config', lab.config];
  const script = 'mkdir gone && cd gone && rmdir ../gone && exec node "$@"';
  const r = sh('sh', ['-c', script, 'sh', MAYFLY, ...args, ...own], { cwd: lab.dir });
  if (words === '') expect(r.err).toBe('');
  else expect(r.err).toMatch(words);
  expect(r.code).toBe(code);
});

it('destroy: there must be a pool', () => {
  const none = { code: 4, out: '', err: expect.stringMatching(/^mayfly: there is no pool to remove\n/) };
  expect(lab.mayfly('destroy')).toMatchObject(none);
  expect(lab.mayfly('destroy', '--dry-run')).toMatchObject(none);
  expect(lab.mayfly('destroy', '--yes')).toMatchObject(none);
});

describe('with a pool', () => {
  let ready: Lab;
  const before: unknown[] = [];
  const state = (): unknown[] => [ready.picture(), fs.readdirSync(`${ready.dir}/state`), ready.records()];
  beforeAll(() => {
    ready = Lab.make({ backend: 'overlay' });
    user(WHO);
    ready.hook('start', WHO);
    before.push(...state());
  });
  afterAll(() => {
    ready.close();
    forgetUsers();
  });

  it.each([
    [['end', WHO], /^u\d+-[0-9a-f]{8} would be ended$/m, ''],
    [['destroy'], /^$/, /there are sessions: u.*\nhint: mayfly sessions\n/],
    [['rollback', '1'], /^generation 1 would be stable$/m, ''],
    [['run', '--', 'true'], /^run schroot -c u0-[0-9a-f]{8} -u root -d \/ -- true$/m, ''],
    [['enter', '1'], /^run schroot -c u0-[0-9a-f]{8} -u root -d \/ --/m, /this is a copy of the generation/],
    [['enter', 'master'], /^would copy master, open a shell in the copy, and ask whether to seal.*\n$/, ''],
  ])('a dry run of %j says what it would do, and does nothing', (args, out, err) => {
    const [verb = '', ...rest] = args;
    const r = ready.mayfly(verb, '--dry-run', ...rest);
    expect(r.out).toMatch(out);
    expect(r.err).toMatch(err === '' ? /^$/ : err);
    expect(r.code).toBe(verb === 'destroy' ? 4 : 0);
    expect(state()).toEqual(before);
  });

  it.each([[['recover']], [['end', WHO]]])(
    'a dry run of %j with --json is JSON on stdout, and a plan on stderr',
    args => {
      const [verb = '', ...rest] = args;
      const r = ready.mayfly(verb, '--dry-run', '--json', ...rest);
      expect(JSON.parse(r.out)).toMatchObject({ dry_run: true });
      if (verb === 'end') expect(r.err).toMatch(/^write .*\/sessions\/u/m);
    },
  );

  it('init of a machine that is set up is refused', () => {
    const err = expect.stringMatching(/is already in use: generation 1 is stable\nhint: mayfly status\n$/);
    expect(ready.mayfly('init', '--from', '/')).toMatchObject({ code: 4, err });
  });

  it('an update by the timer while another is at work says so once', () => {
    const lock = `${ready.dir}/run/locks/update`;
    const args = [lock, 'node', MAYFLY, 'update', '--scheduled', '--force', '--config', ready.config];
    const r = sh('flock', args);
    expect(r.code).toBe(5);
    expect(r.err.match(/^mayfly: /gm)).toHaveLength(1);
  });

  it('a dry run of destroy removes nothing', () => {
    expect(ready.mayfly('end', WHO)).toMatchObject({ code: 0 });
    const r = ready.mayfly('destroy', '--dry-run', '--json');
    expect(JSON.parse(r.out)).toEqual({ destroyed: `${ready.dir}/pool`, dry_run: true });
    expect(ready.mayfly('destroy', '--dry-run').out).toMatch(/^would remove the pool and all generations$/m);
    expect(ready.mayfly('run', '--', 'true')).toMatchObject({ code: 0 });
  });
});
