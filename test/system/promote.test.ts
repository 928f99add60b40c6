/**
 * A full room while generations come and go: 50 people log in and out without a pause, 20 promotions, 5 rollbacks and
 * the collector run. The history of all of it is kept and checked afterwards.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, forgetUsers, Lab, sh, sleep, spawnMayfly, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const CLIENTS = Number(process.env.MAYFLY_TEST_CLIENTS ?? 50);
const PROMOTIONS = Number(process.env.MAYFLY_TEST_PROMOTIONS ?? 20);
/** A rollback after every so many promotions. */
const EACH = 4;
/** People who stay over many promotions. */
const SLEEPERS = 5;
/** Files all over the tree that carry the number of the generation they belong to. */
const STAMPS = ['etc', 'usr', 'usr/bin', 'usr/lib', 'usr/share/doc', 'var/lib', 'opt', 'srv'].map(
  d => `${d}/mayfly-stamp`,
);

interface Seen {
  readonly from: number;
  readonly to: number;
  readonly generation: number;
  readonly stamps: readonly string[];
  /** The same after the person has been inside for a while. */
  readonly later: readonly string[];
  readonly ms: number;
}

/** When the pointer was moved, by the time of its link, and to what. */
interface Moved {
  readonly at: number;
  readonly to: number;
}

const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? Number.NaN;

/** In user-mode Linux times say nothing, and a whole Debian takes long to copy. */
const emulated = process.env.MAYFLY_TEST_VG !== undefined;

describe.each(BACKENDS)('a full room on %s, while generations are promoted', backend => {
  // Here an update takes less than a second; with a pause, so that it is not all promotions and no life between.
  const pause = backend === 'btrfs' ? 1500 : 0;
  const promotions = PROMOTIONS;
  const rollbacks = Math.floor(promotions / EACH);
  let lab: Lab;
  let running = true;
  let clients: Promise<void>[] = [];
  const seen: Seen[] = [];
  const moved: Moved[] = [];
  const problems: string[] = [];
  const names = Array.from({ length: CLIENTS }, (_, i) => `mayfly-c${i}`);

  beforeAll(() => {
    for (const name of names) user(name);
    const from = emulated ? makeMiniTree(`${fs.mkdtempSync('/var/lib/mayfly-test-tree-')}/tree`) : undefined;
    // As large as `init` makes it: where btrfs is short of room for its trees, it makes everybody wait.
    lab = Lab.make({ backend, imageSize: '16G', ...(from === undefined ? {} : { from }) });
    if (from !== undefined) fs.rmSync(from.slice(0, -'/tree'.length), { recursive: true });
    // The administrator's script stamps every tree with what stands in a file of this test.
    fs.mkdirSync(`${lab.dir}/refresh.d`);
    const lines = STAMPS.map(
      path => `mkdir -p "$(dirname "$1/${path}")" && cat ${lab.dir}/next >"$1/${path}"`,
    );
    fs.writeFileSync(`${lab.dir}/refresh.d/stamp`, `#!/bin/sh\nset -e\n${lines.join('\n')}\n`, {
      mode: 0o755,
    });
    lab.configure(
      '[update]\ncommand = ["true"]\nkeep = 3\n[hook]\ntimeout = 120\n[check]\ndemote_after = 0\n',
    );
  });
  afterAll(async () => {
    running = false; // also where the test broke in the middle
    await Promise.allSettled(clients);
    lab.close();
    forgetUsers();
  });

  /** What the session shows, read from where it is mounted. */
  function stampsOf(id: string): Promise<string[]> {
    // Not in this thread: a read that has to wait would stop the clock of every login that is being timed.
    const read = (path: string): Promise<string> =>
      fs.promises.readFile(`${lab.dir}/run/roots/${id}/${path}`, 'utf8').then(
        text => text.trim(),
        (error: NodeJS.ErrnoException) => error.code ?? 'unreadable',
      );
    return Promise.all(STAMPS.map(read));
  }

  async function client(i: number): Promise<void> {
    const name = names[i] ?? '';
    const display = `:${i + 10}`;
    await sleep(i * 200); // not all at the same moment
    while (running) {
      const from = Date.now();
      const start = await lab.hookAsync('start', name, display).done;
      const to = Date.now();
      const s = lab.session(name);
      if (start.code !== 0 || !s) {
        problems.push(`${name}: ${start.err}`);
        continue;
      }
      const stamps = await stampsOf(s.id);
      // A room that leaves the machine a little time for the updates: some five logins and logouts a second.
      const stay = i < SLEEPERS ? 15_000 : 2000 + Math.random() * 16_000;
      for (const end = Date.now() + stay; running && Date.now() < end; ) await sleep(200);
      const later = await stampsOf(s.id);
      seen.push({ from, to, generation: s.generation, stamps, later, ms: start.ms });
      const stop = await lab.hookAsync('stop', name, display).done;
      if (stop.code !== 0 || lab.session(name)) problems.push(`${name}: logout: ${stop.err}`);
    }
  }

  /** After each act on the pointer: its link tells when it was made. */
  function notice(): void {
    const path = `${lab.dir}/state/stable`;
    const to = Number(/(\d+)\.json$/.exec(fs.readlinkSync(path))?.[1]);
    if (moved.at(-1)?.to !== to) moved.push({ at: fs.lstatSync(path).mtimeMs, to });
  }

  async function promoteOnce(i: number): Promise<{ total: number; section: number }> {
    fs.writeFileSync(`${lab.dir}/next`, `${i}\n`);
    const begun = Date.now();
    const r = await spawnMayfly(lab, 'update', '--quiet');
    expect(r, `update ${i}`).toEqual({ code: 0, out: '', err: '' });
    notice();
    const number = moved.at(-1)?.to ?? 0;
    const proven = fs.lstatSync(`${lab.dir}/state/generations/${number}.json`).ctimeMs;
    return { total: Date.now() - begun, section: (moved.at(-1)?.at ?? 0) - proven };
  }

  it(`${CLIENTS} people, ${promotions} promotions, ${rollbacks} rollbacks, and the collector`, async () => {
    fs.writeFileSync(`${lab.dir}/next`, 'first\n');
    const stampOf = new Map<number, string>();
    const idle = await promoteOnce(0);
    stampOf.set(moved.at(-1)?.to ?? 0, '0');
    // The first generation has no stamps: everybody is in a later one from here on.
    clients = names.map((_, i) => client(i));
    await sleep(CLIENTS * 200);
    const quiet = Date.now();
    if (!emulated) await sleep(40_000);
    const busy = Date.now();
    const sections: number[] = [];
    for (let i = 1; i <= promotions; i++) {
      await sleep(pause);
      const { section } = await promoteOnce(i);
      sections.push(section);
      stampOf.set(moved.at(-1)?.to ?? 0, String(i));
      if (i % EACH === 0) {
        const back = await spawnMayfly(lab, 'rollback', '--quiet');
        expect(back, `rollback after ${i}`).toEqual({ code: 0, out: '', err: '' });
        notice();
      }
      if (i % 3 === 0) expect(await spawnMayfly(lab, 'gc', '--quiet')).toMatchObject({ code: 0 });
    }
    const over = Date.now();
    running = false;
    await Promise.all(clients);

    expect(problems).toEqual([]);
    const wrong = seen.flatMap(s => {
      const expected = stampOf.get(s.generation);
      const torn = [...s.stamps, ...s.later].find(stamp => stamp !== expected);
      if (torn !== undefined) return [`generation ${s.generation} showed "${torn}" instead of "${expected}"`];
      // The pointer was at this generation at some moment of the login. Clocks of files lag by a tick (4 ms).
      const possible = moved.some((m, i) => {
        const until = moved[i + 1]?.at ?? Number.POSITIVE_INFINITY;
        return m.to === s.generation && m.at - 10 <= s.to && until + 10 >= s.from;
      });
      return possible ? [] : [`generation ${s.generation} was not stable between ${s.from} and ${s.to}`];
    });
    expect(wrong).toEqual([]);
    expect(moved).toHaveLength(1 + promotions + rollbacks);

    const before = seen.filter(s => s.from >= quiet && s.to < busy).map(s => s.ms);
    const during = seen.filter(s => s.to >= busy && s.from <= over).map(s => s.ms);
    const line = (what: string, ms: readonly number[]): string =>
      `${what}: ${ms.length} logins, median ${quantile(ms, 0.5).toFixed(0)} ms, p99 ${quantile(ms, 0.99).toFixed(0)} ms`;
    const ratio = quantile(during, 0.99) / quantile(before, 0.99);
    console.log(
      `${backend}: ${line('without', before)}; ${line('during updates', during)}; p99 ratio ${ratio.toFixed(2)} (budget 2); ` +
        `${new Set(seen.map(s => s.generation)).size} generations seen; promotion section: median ${quantile(sections, 0.5).toFixed(1)} ms, ` +
        `worst ${Math.max(...sections).toFixed(1)} ms, idle ${idle.section.toFixed(1)} ms; ` +
        `${((over - busy) / promotions / 1000).toFixed(1)} s per update`,
    );
    expect(during.length).toBeGreaterThan(CLIENTS);
    expect(new Set(seen.map(s => s.generation)).size).toBeGreaterThan(promotions / 4);
    if (emulated) return;
    expect(before.length).toBeGreaterThan(CLIENTS);
    // It waits for nobody: less than the quickest login takes.
    expect(Math.max(...sections)).toBeLessThan(quantile(before, 0));
    expect(ratio).toBeLessThanOrEqual(2);
  }, 1_800_000);

  it('leaves nothing: no session, no generation too many, and the collector finds nothing more', () => {
    expect(lab.records()).toEqual([]);
    const r = lab.mayfly('gc');
    expect(r).toMatchObject({ code: 0 });
    const left = lab.inPool().generations;
    const known = fs.readdirSync(`${lab.dir}/state/generations`).filter(n => n.endsWith('.json'));
    expect(left.sort()).toEqual(known.map(n => n.replace('.json', '')).sort());
    expect(known.length).toBeLessThanOrEqual(3);
    expect(sh('ls', ['-A', `${lab.dir}/run/roots`]).out.trim()).toBe('work');
  });
});
