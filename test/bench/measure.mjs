// Timing of children, rounds, and what the numbers say.
import { spawn, spawnSync } from 'node:child_process';

/** The whole environment of everything that is measured: what a display manager would give, not this shell's. */
export const ENV = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LANG: 'C' };

let stopping;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    stopping = signal;
  });
}

/** Lets a signal that came meanwhile through. Called between children, so that cleaning up always happens. */
export async function breathe() {
  await new Promise(resolve => setImmediate(resolve));
  if (stopping) throw new Error(`stopped by ${stopping}`);
}

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/** Waits until `test()` holds; false where it does not within `ms`. */
export async function until(test, ms) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(10)) {
    if (await test()) return true;
    await breathe();
  }
  return false;
}

/** Runs a child to its end and tells how long it took. Throws where its exit code is not expected. */
export function run(file, args, { env = {}, expect = [0], ...rest } = {}) {
  const begin = process.hrtime.bigint();
  const child = spawnSync(file, args, {
    env: { ...ENV, ...env },
    cwd: '/',
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    ...rest,
  });
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  if (child.error) throw child.error;
  if (!expect.includes(child.status)) {
    const how = child.signal ?? `exit code ${child.status}`;
    throw new Error(`"${file} ${args.join(' ')}" failed (${how}): ${child.stderr.trim().slice(0, 2000)}`);
  }
  return { ms, code: child.status, stdout: child.stdout, stderr: child.stderr };
}

/** Starts all commands at once; milliseconds until the last has ended well. */
export async function runTogether(commands) {
  const begin = process.hrtime.bigint();
  const ends = commands.map(
    ([file, args, env = {}]) =>
      new Promise((resolve, reject) => {
        const child = spawn(file, args, {
          env: { ...ENV, ...env },
          cwd: '/',
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        let stderr = '';
        child.stderr.on('data', chunk => {
          stderr += chunk;
        });
        child.on('error', reject);
        child.on('close', code =>
          code === 0 ? resolve() : reject(new Error(`${file}: ${code}: ${stderr}`)),
        );
      }),
  );
  const failed = (await Promise.allSettled(ends)).find(r => r.status === 'rejected');
  const ms = Number(process.hrtime.bigint() - begin) / 1e6;
  if (failed) throw failed.reason;
  return ms;
}

/** All variants in turn, `count` times after two warm-ups; a variant's results by its name. */
export async function roundRobin(count, variants, warmUps = 2) {
  const results = Object.fromEntries(Object.keys(variants).map(name => [name, []]));
  for (let round = -warmUps; round < count; round++) {
    for (const [name, once] of Object.entries(variants)) {
      await breathe();
      const result = await once();
      if (round >= 0) results[name].push(result);
    }
  }
  return results;
}

export function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const next = sorted[Math.min(low + 1, sorted.length - 1)];
  return sorted[low] + (next - sorted[low]) * (at - low);
}

export const median = values => quantile(values, 0.5);
const round = (value, digits) => Number(value.toFixed(digits));

/** A row about how much faster or slower than its peer: the median of the ratios of each pair. */
export function ratioRow(name, peer, ours, theirs, budget) {
  const ratios = ours.map((ms, i) => ms / theirs[i]);
  const value = round(median(ratios), 3);
  return {
    name,
    metric: 'time ratio',
    value,
    peer,
    budget,
    ok: budget === null || value <= budget,
    detail: {
      p10: round(quantile(ratios, 0.1), 3),
      p90: round(quantile(ratios, 0.9), 3),
      rounds: ratios.length,
      ms: round(median(ours), 1),
      peer_ms: round(median(theirs), 1),
      p90_ms: round(quantile(ours, 0.9), 1),
      peer_p90_ms: round(quantile(theirs, 0.9), 1),
    },
  };
}

/** A row about the slow ones: the ratio of the two 90th percentiles. Only told. */
export function p90Row(name, peer, ours, theirs) {
  const [ms, peerMs] = [quantile(ours, 0.9), quantile(theirs, 0.9)];
  const detail = { rounds: ours.length, ms: round(ms, 1), peer_ms: round(peerMs, 1) };
  return { name, metric: 'p90 ratio', value: round(ms / peerMs, 3), peer, budget: null, ok: true, detail };
}

/** A row about one number that must not exceed its budget. */
export function numberRow(name, metric, value, budget, peer = '', detail = {}) {
  return {
    name,
    metric,
    value: round(value, 1),
    peer,
    budget,
    ok: budget === null || value <= budget,
    detail,
  };
}
