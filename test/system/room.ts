/**
 * A full room while generations come and go: people log in and out without a pause, and the history of it is kept.
 * Every generation carries a stamp of its own in files all over its tree, so that what a person sees tells which it is.
 */
import * as fs from 'node:fs';
import { expect } from 'vitest';
import type { BackendKind } from '../../src/volume/backend.ts';
import { forgetUsers, Lab, sleep, spawnMayfly, user } from './lab.ts';

const STAMPS = ['etc', 'usr', 'usr/bin', 'usr/lib', 'usr/share/doc', 'var/lib', 'opt', 'srv'].map(
  d => `${d}/mayfly-stamp`,
);

/** One login, in milliseconds since the epoch. */
export interface Seen {
  readonly from: number;
  readonly to: number;
  /** How long its hook took. */
  readonly ms: number;
  readonly generation: number;
  readonly stamps: readonly string[];
  /** The same at the end of their stay. */
  readonly later: readonly string[];
  /** When its volume was forked: not before and not after. */
  readonly forked: readonly [number, number];
}

/** When the pointer was moved, by the time of its link, and to what. */
interface Moved {
  readonly at: number;
  readonly to: number;
}

export interface RoomOptions {
  readonly backend: BackendKind;
  readonly people: number;
  /** Of the first generation; default: a whole Debian. */
  readonly from?: string;
  /** How long the `n`-th person stays once they are in; called at each login. Ends at once where the room is closed. */
  readonly stay: (n: number, room: Room) => Promise<void>;
}

export class Room {
  readonly lab: Lab;
  readonly seen: Seen[] = [];
  readonly moved: Moved[] = [];
  readonly problems: string[] = [];
  /** Generations that people have logged in to. */
  readonly used = new Set<number>();
  isOpen = false;
  readonly #o: RoomOptions;
  readonly #names: readonly string[];
  readonly #stampOf = new Map<number, string>();
  #clients: readonly Promise<void>[] = [];

  constructor(o: RoomOptions) {
    this.#o = o;
    this.#names = Array.from({ length: o.people }, (_, i) => user(`mayfly-c${i}`));
    // As large as `init` makes it: where btrfs is short of room for its trees, it makes everybody wait.
    this.lab = Lab.make({ backend: o.backend, imageSize: '16G', ...(o.from ? { from: o.from } : {}) });
    // The administrator's script stamps every tree with what stands in a file of this room's.
    fs.mkdirSync(`${this.lab.dir}/refresh.d`);
    const lines = STAMPS.map(
      path => `mkdir -p "$(dirname "$1/${path}")" && cat ${this.lab.dir}/next >"$1/${path}"`,
    );
    fs.writeFileSync(`${this.lab.dir}/refresh.d/stamp`, `#!/bin/sh\nset -e\n${lines.join('\n')}\n`, {
      mode: 0o755,
    });
    this.lab.configure(
      '[update]\ncommand = ["true"]\nkeep = 3\n[hook]\ntimeout = 600\n[check]\ndemote_after = 0\n',
    );
  }

  /** The generation that new logins get. */
  get stable(): number {
    return this.moved.at(-1)?.to ?? 0;
  }

  /** Lets people in. The first generation has no stamps: there must have been a promotion. */
  open(): void {
    this.isOpen = true;
    this.#clients = this.#names.map((name, i) => this.#comeAndGo(name, i));
  }

  /** Waits until everybody is out. */
  async empty(): Promise<void> {
    this.isOpen = false;
    await Promise.all(this.#clients);
  }

  /** Takes all of it away, also where a test broke in the middle. */
  async close(): Promise<void> {
    this.isOpen = false;
    await Promise.allSettled(this.#clients);
    this.lab.close();
    forgetUsers();
  }

  /** One update; returns the milliseconds from when the generation was proven to when it was stable. */
  async promote(): Promise<number> {
    const stamp = String(this.#stampOf.size);
    fs.writeFileSync(`${this.lab.dir}/next`, `${stamp}\n`);
    const r = await spawnMayfly(this.lab, 'update', '--quiet');
    expect(r, `update ${stamp}`).toEqual({ code: 0, out: '', err: '' });
    this.#notice();
    this.#stampOf.set(this.stable, stamp);
    const proven = fs.lstatSync(`${this.lab.dir}/state/generations/${this.stable}.json`).ctimeMs;
    return (this.moved.at(-1)?.at ?? 0) - proven;
  }

  async rollBack(): Promise<void> {
    expect(await spawnMayfly(this.lab, 'rollback', '--quiet')).toEqual({ code: 0, out: '', err: '' });
    this.#notice();
  }

  async collect(): Promise<void> {
    expect(await spawnMayfly(this.lab, 'gc', '--quiet')).toMatchObject({ code: 0 });
  }

  /** What of the history can not be: torn trees, and generations that were not stable during the login. */
  contradictions(): string[] {
    return this.seen.flatMap(s => {
      const expected = this.#stampOf.get(s.generation);
      const torn = [...s.stamps, ...s.later].find(stamp => stamp !== expected);
      if (torn !== undefined) return [`generation ${s.generation} showed "${torn}" instead of "${expected}"`];
      // The pointer was at this generation when the volume was forked: both times are of files, by the same clock. So no
      // login that has read the old pointer forks after a promotion has returned, or has even moved it.
      const possible = this.moved.some((m, i) => {
        const until = this.moved[i + 1]?.at ?? Number.POSITIVE_INFINITY;
        return m.to === s.generation && m.at <= s.forked[1] && s.forked[0] <= until;
      });
      const when = `between ${s.from} and ${s.to}, when it was forked (${s.forked.join(' to ')})`;
      return possible ? [] : [`generation ${s.generation} was not stable ${when}`];
    });
  }

  async #comeAndGo(name: string, i: number): Promise<void> {
    const display = `:${i + 10}`;
    await sleep(i * 200); // not all at the same moment
    while (this.isOpen) {
      const from = Date.now();
      const start = await this.lab.hookAsync('start', name, display).done;
      const to = Date.now();
      const s = this.lab.session(name);
      if (start.code !== 0 || !s) {
        this.problems.push(`${name}: ${start.err}`);
        continue;
      }
      const stamps = await this.#stampsOf(s.id);
      const forked = await this.lab.forkedAt(s);
      this.used.add(s.generation);
      await this.#o.stay(i, this);
      const later = await this.#stampsOf(s.id);
      this.seen.push({ from, to, generation: s.generation, stamps, later, forked, ms: start.ms });
      const stop = await this.lab.hookAsync('stop', name, display).done;
      if (stop.code !== 0 || this.lab.session(name)) this.problems.push(`${name}: logout: ${stop.err}`);
    }
  }

  /** What the session shows, read from where it is mounted. */
  #stampsOf(id: string): Promise<string[]> {
    // Not in this thread: a read that has to wait would stop the clock of every login that is being timed.
    const read = (path: string): Promise<string> =>
      fs.promises.readFile(`${this.lab.dir}/run/roots/${id}/${path}`, 'utf8').then(
        text => text.trim(),
        (error: NodeJS.ErrnoException) => error.code ?? 'unreadable',
      );
    return Promise.all(STAMPS.map(read));
  }

  /** After each act on the pointer: its link tells when it was made. */
  #notice(): void {
    const path = `${this.lab.dir}/state/stable`;
    const to = Number(/(\d+)\.json$/.exec(fs.readlinkSync(path))?.[1]);
    if (this.stable !== to) this.moved.push({ at: fs.lstatSync(path).mtimeMs, to });
  }
}
