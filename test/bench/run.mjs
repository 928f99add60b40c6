// npm run bench [-- --json FILE] [-- --rounds N] [-- --only NAME] [-- --tree DIRECTORY|TARBALL]
// Measures on this machine what docs promise: see the table it prints. Needs root. A missed budget is reported, not
// an error: timings are the machine's. Everything it makes is taken away again.
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { crowd, together } from './crowd.mjs';
import { btrfsLogin, enter, overlayLogin, startUp } from './login.mjs';
import { run } from './measure.mjs';
import { cleanUp, makeSandbox, openScratch, temporaryUsers } from './sandbox.mjs';
import { forkBomb, manyProcesses } from './teardown.mjs';
import { inVitest } from './vitest.mjs';

const benchmarks = {
  'start-up': startUp,
  'login-overlay': overlayLogin,
  'login-btrfs': btrfsLogin,
  'login-enter': enter,
  'crowd-together': together,
  'crowd-300': crowd,
  'teardown-500': manyProcesses,
  'teardown-bomb': forkBomb,
  promote: inVitest('promote'),
  desktop: inVitest('desktop'),
};

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    rounds: { type: 'string', default: '20' },
    only: { type: 'string' },
    tree: { type: 'string' },
  },
});
const rounds = Number(options.rounds);
const chosen = Object.entries(benchmarks).filter(([name]) => !options.only || name.includes(options.only));

/** Why nothing can be measured here; undefined where it can. */
function obstacle() {
  if (process.getuid() !== 0) return 'the benchmarks make sessions, and need root for it';
  if (!Number.isInteger(rounds) || rounds < 1) return `--rounds takes a number, not "${options.rounds}"`;
  if (chosen.length === 0) return `--only takes (part of) one of: ${Object.keys(benchmarks).join(', ')}`;
  const tools = ['schroot', 'useradd', 'pkill', 'perl', ...(options.tree ? [] : ['mmdebstrap'])];
  const missing = tools.filter(tool => run('which', [tool], { expect: [0, 1] }).code !== 0);
  return missing.length > 0 ? `not installed: ${missing.join(', ')}` : undefined;
}

function machine() {
  const first = (file, args) => run(file, args).stdout.split('\n')[0];
  return [
    `cpu      ${cpus().length} x ${cpus()[0].model}`,
    `kernel   ${release()}`,
    `node     ${first('node', ['--version'])}`,
    `schroot  ${first('schroot', ['--version'])}`,
    `load     ${readFileSync('/proc/loadavg', 'utf8').trim()}`,
  ].join('\n');
}

function table(rows) {
  const cells = rows.map(r => {
    const d = r.detail;
    const spread = d.p10 === undefined ? '' : ` [${d.p10}-${d.p90}]`;
    const peer = d.ms === undefined ? r.peer : `${r.peer} (${d.ms} / ${d.peer_ms} ms)`;
    return [r.name, r.metric, `${r.value}${spread}`, peer, `${r.budget ?? ''}`, r.ok ? 'ok' : 'MISSED'];
  });
  const all = [['name', 'metric', 'value [p10-p90]', 'peer (ours / peer)', 'budget', ''], ...cells];
  const widths = all[0].map((_, i) => Math.max(...all.map(row => row[i].length)));
  return all
    .map(row =>
      row
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

const say = line => console.error(`bench: ${line}`);
let sandboxes = {};

/** What every benchmark gets. Sandboxes are made on first use and shared. */
const context = {
  rounds,
  slowRounds: Math.max(1, Math.min(rounds, 5)),
  say,
  users: temporaryUsers,
  async overlay() {
    if (!sandboxes.overlay) say('making a tree');
    const source = options.tree
      ? ['--from', options.tree]
      : ['--from', 'debootstrap', '--variant', 'minbase'];
    sandboxes.overlay ??= makeSandbox('overlay', 'overlay', source);
    return sandboxes.overlay;
  },
  async btrfs() {
    sandboxes.btrfs ??= makeSandbox('btrfs', 'btrfs', ['--from', (await context.overlay()).tree]);
    return sandboxes.btrfs;
  },
};

async function main() {
  const problem = obstacle();
  if (problem) {
    console.error(`bench: ${problem}`);
    return 2;
  }
  const rows = [];
  let broken = 0;
  try {
    openScratch();
    for (const [name, measure] of chosen) {
      say(name);
      try {
        rows.push(...(await measure(context)));
      } catch (error) {
        if (/^stopped by/.test(error.message)) throw error;
        broken++;
        console.error(`bench: ${name} broke: ${error.stack}`);
      }
    }
  } catch (error) {
    broken++;
    console.error(`bench: ${error.message}`);
  } finally {
    say('cleaning up');
    broken += await cleanUp();
    sandboxes = {};
  }
  console.log(`${machine()}\n\n${table(rows)}`);
  if (options.json) writeFileSync(options.json, `${JSON.stringify(rows, null, 2)}\n`);
  return broken > 0 ? 1 : 0;
}

process.exitCode = await main();
