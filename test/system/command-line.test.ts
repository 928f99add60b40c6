/** What only whole commands show of the command line: files that are looked for, and what is done in a dry run. */
import * as fs from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Lab, MAYFLY, sh } from './lab.ts';

let lab: Lab;
beforeAll(() => {
  lab = new Lab();
});
afterAll(() => lab.close());

const HOOK = ['hook', 'lightdm', 'start', '--dry-run'];

it.each([
  [['status'], 'typo.toml', 3, /there is no configuration file "\/.*\/typo\.toml"/],
  [HOOK, 'typo.toml', 3, /there is no configuration file "\/.*\/typo\.toml"/],
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
