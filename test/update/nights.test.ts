/**
 * Years of nights on one machine: updates from an archive that changes at random, fails, or breaks desktops; faults, kills
 * and power cuts; people who log in and out, stay for days, and are in their sessions meanwhile. After each night the
 * machine must be sound, and at the end it must be as one that has seen one night.
 */
import { expect, it } from 'vitest';
import { MayflyError } from '../../src/errors.ts';
import type { Host } from '../../src/linux/host.ts';
import { type Recovered, recover } from '../../src/service/recover.ts';
import { end } from '../../src/session/end.ts';
import { PROVEN_AFTER } from '../../src/session/proof.ts';
import { login } from '../../src/session/session.ts';
import {
  generationNumbers,
  lastNumber,
  probation,
  readableGeneration,
  stableNumber,
  whyDemoted,
} from '../../src/state/generations.ts';
import type { Machine } from '../../src/state/machine.ts';
import { readSessions } from '../../src/state/sessions.ts';
import { pendingPromotion } from '../../src/update/adopt.ts';
import type { ChrootOptions } from '../../src/update/chroot.ts';
import { isUsable } from '../../src/update/health.ts';
import { withoutHeldBack } from '../../src/update/held-back.ts';
import { prune } from '../../src/update/retention.ts';
import { rollback } from '../../src/update/rollback.ts';
import { update } from '../../src/update/update.ts';
import { withUpdateLock } from '../../src/update/update-lock.ts';
import { masterOf, type Volume, workOf } from '../../src/volume/backend.ts';
import { chance, count } from '../campaign.ts';
import { callOf, Died, preparedWorld } from '../world.ts';

const POOL = { backend: 'overlay' as const, path: '/var/lib/mayfly/pool' };
const KEEP = 2;
const DAY = 86_400_000;
const PEOPLE = ['alice', 'bob', 'carol'];

/** Programs of which one fails all night. */
const PROGRAMS = ['perl', 'mount', 'umount', 'rm', 'setpriv', 'unshare', 'mkfifo', 'findmnt', 'find'];

/** What the archive or the administrator's command does in a night. */
type Archive =
  | 'new'
  | 'nothing'
  | 'discard'
  | 'fails'
  | 'breaks desktops'
  | 'takes desktops'
  | 'fails checks';

type Fault = 'none' | 'program' | 'no room to write' | 'full pool' | 'logins in flight' | 'kill' | 'power';

class Years {
  readonly w = preparedWorld();
  /** What each generation held when it was first seen. */
  readonly sealed = new Map<number, string>();
  readonly happened = new Map<string, number>();
  readonly #random: () => number;
  #version = 1;
  #greatest = 1;
  #fault: Fault = 'none';
  /** Files in the state directory whose last write a power cut may lose. */
  readonly #unsaved = new Set<string>();

  constructor(random: () => number) {
    this.#random = random;
  }

  async begin(): Promise<void> {
    const { w } = this;
    w.makeDirs('/etc/mayfly');
    this.#boot();
    w.put('/etc/mayfly/mayfly.toml', `[check]\nuser = "bob"\ndemote_after = 2\n[update]\nkeep = ${KEEP}\n`);
    w.put('/etc/passwd', `${w.host.read('/etc/passwd')}carol:x:1003:1003::/home/carol:/bin/sh\n`);
    w.put('/etc/group', `${w.host.read('/etc/group')}carol:x:1003:\n`);
    w.programs.timeout = args => {
      if (!args.includes('journalctl')) return undefined;
      if (!this.#isBroken()) return undefined;
      const told = { MESSAGE: 'MAYFLY-DESKTOP', __MONOTONIC_TIMESTAMP: String(w.host.monotonic() * 1000) };
      return { stdout: `${JSON.stringify(told)}\n` };
    };
    this.#write('generation/1', { '/etc/version': '1', '/usr/version': '1', ...DESKTOP });
    await w.backend().fork({ ...masterOf(POOL), role: 'generation', name: '1' }, masterOf(POOL));
    w.newProcess();
    await this.mustBeSound('the beginning');
  }

  #write(volume: string, files: Readonly<Record<string, string | undefined>>): void {
    const nodes = this.w.volumes.get(`${POOL.path}/${volume}`)?.nodes;
    const file = nodes?.get('/etc/passwd');
    if (!nodes || !file) throw new Error(volume);
    for (const [path, text] of Object.entries(files)) {
      if (text === undefined) nodes.delete(path);
      else nodes.set(path, { ...file, text });
      for (let at = path; text !== undefined && at !== ''; at = at.slice(0, at.lastIndexOf('/')))
        if (!nodes.has(at)) nodes.set(at, { ...file, kind: 'dir', mode: 0o755, text: '' });
    }
  }

  /** The machine as the program sees it in this night. Its trees are on devices, which are mounted to be looked at. */
  #machine(): Machine {
    const { w } = this;
    const backend = w.backend();
    const attachTree = async (v: Volume, target: string) => ({
      ...{ source: backend.path(v) ?? '', target, type: 'memory', options: 'rw' },
    });
    const on = w.machine();
    const write: Host['write'] = (path, text, o) => {
      if (this.#fault === 'no room to write' && this.#random() < 0.3)
        throw Object.assign(new Error(`ENOSPC: ${path}`), { code: 'ENOSPC' });
      if (!o.durable && path.startsWith(on.paths.state)) this.#unsaved.add(path);
      on.host.write(path, text, o);
    };
    return {
      ...on,
      host: { ...on.host, write },
      backend: () => ({ ...backend, path: () => undefined, attachTree }),
    };
  }

  #oneOf<T>(all: readonly T[]): T {
    const one = all[Math.floor(this.#random() * all.length)];
    if (one === undefined) throw new Error('nothing to choose from');
    return one;
  }

  #note(what: string): void {
    this.happened.set(what, (this.happened.get(what) ?? 0) + 1);
  }

  /** A command that may be refused in words, or die; nothing else. */
  async #command(what: string, act: (on: Machine) => Promise<unknown>): Promise<boolean> {
    try {
      await act(this.#machine());
      return true;
    } catch (error) {
      const isTold = error instanceof MayflyError && error.code !== 'internal';
      const isOut = this.#fault === 'no room to write' && (error as { code?: string }).code === 'ENOSPC';
      if (!isTold && !isOut && !(error instanceof Died)) throw new Error(what, { cause: error });
      return false;
    } finally {
      if (this.w.dieAt === Number.POSITIVE_INFINITY) this.w.newProcess();
    }
  }

  /** Whether desktops of the stable generation end at once. */
  #isBroken(): boolean {
    const number = stableNumber(this.w.host, this.w.machine().paths) ?? 0;
    return this.textIn(`generation/${number}`, '/etc/state') === 'broken';
  }

  /** What starts with the machine. */
  #boot(): void {
    this.w.makeDirs('/run/systemd/journal');
    this.w.put('/run/systemd/journal/socket', '');
  }

  /** The power returns: everything that was not made durable may be lost. */
  #powerCut(): void {
    this.w.reboot();
    this.#boot();
    for (const path of this.#unsaved)
      if (this.w.host.exists(path) && this.#random() < 0.5) this.w.put(path, '', 0o600);
    this.#unsaved.clear();
  }

  async #people(): Promise<void> {
    const { w } = this;
    for (let n = Math.floor(this.#random() * 10); n > 0; n--) {
      const name = this.#oneOf(PEOPLE);
      const here = readSessions(w.host, w.machine().paths).find(s => s.user.name === name);
      const display = `:${PEOPLE.indexOf(name)}`;
      if (!here) await this.#command('a login', on => login(on, callOf(w, name, display)));
      else await this.#command('a logout', on => end(on, here.id));
      const isShort = this.#random() < 0.4 || this.#isBroken(); // whoever has no desktop does not stay
      await w.host.sleep(isShort ? 9_000 : PROVEN_AFTER);
    }
  }

  #change(archive: Archive) {
    return async ({ tree }: ChrootOptions): Promise<boolean> => {
      await withoutHeldBack(this.#machine(), tree, () => this.#refresh(archive));
      return archive !== 'discard';
    };
  }

  async #refresh(archive: Archive): Promise<void> {
    const [work = ''] = [workOf(POOL)].map(v => `${v.role}/${v.name}`);
    if (archive === 'fails') throw new MayflyError('command', 'apt has failed');
    if (archive !== 'nothing') {
      const version = String(++this.#version);
      // A tree that was killed in between has two versions.
      this.#write(work, { '/etc/version': version });
      this.w.host.sync('/');
      await this.w.host.run({ file: 'mount', args: ['--make-private', '/'], effect: 'write' });
      this.#write(work, { '/usr/version': version });
    }
    if (archive === 'breaks desktops') this.#write(work, { '/etc/state': 'broken' });
    else if (archive === 'new' && this.#random() < 0.8) this.#write(work, { '/etc/state': 'works' });
    if (archive === 'takes desktops') this.#write(work, NO_DESKTOP);
  }

  async #update(archive: Archive): Promise<void> {
    const { setpriv } = this.w.programs;
    if (archive === 'fails checks')
      this.w.programs.setpriv = args => {
        if (args.includes('schroot')) throw new MayflyError('command', 'a check fails');
        return setpriv?.(args);
      };
    const o = { what: 'an update', origin: 'test', say: () => undefined, change: this.#change(archive) };
    const losses = { allow: false, command: 'allow it' };
    const [from] = this.#random() < 0.03 ? generationNumbers(this.w.host, this.w.machine().paths) : [];
    const isDone = await this.#command('an update', on => update(on, { ...o, losses, from }));
    this.#note(isDone ? `update: ${archive}` : `given up: ${archive}`);
    if (setpriv) this.w.programs.setpriv = setpriv;
  }

  async night(n: number): Promise<void> {
    const { w } = this;
    await this.#people();
    const archive = this.#oneOf<Archive>([
      ...(['new', 'new', 'new', 'new', 'nothing', 'discard', 'fails'] as const),
      ...(['breaks desktops', 'takes desktops', 'fails checks'] as const),
    ]);
    const fault = this.#oneOf<Fault>([
      ...(['none', 'none', 'program', 'no room to write', 'full pool'] as const),
      ...(['logins in flight', 'kill', 'kill', 'power', 'power'] as const),
    ]);
    const when = `night ${n}: ${archive}, ${fault}`;
    this.#note(fault);
    this.#fault = fault;
    const { space } = w;
    const program = this.#oneOf(PROGRAMS);
    if (fault === 'program') w.failing.add(program);
    if (fault === 'full pool') w.space = path => ({ ...space(path), used: 2 ** 40, free: 0 });
    if (fault === 'logins in flight') w.readers.set(1, { pid: 50, path: w.machine().paths.forks });
    const dies = fault === 'kill' || fault === 'power';
    const cut = (): void => {
      if (fault === 'power') this.#powerCut();
      else w.newProcess();
    };
    if (dies) w.dieAt = 1 + Math.floor(this.#random() * 150);
    await this.#update(archive);
    if (dies) cut();
    if (this.#random() < 0.2) await this.#people();
    if (this.#random() < 0.05) await this.#command('a rollback', on => rollback(on, undefined));
    if (this.#random() < 0.05)
      await this.#command('a removal', on => withUpdateLock(on, 'a removal', () => prune(on, POOL)));
    for (let m = dies ? Math.floor(this.#random() * 3) : 0; m > 0; m--) {
      w.dieAt = 1 + Math.floor(this.#random() * 60);
      await this.#command('a recovery', on => recover(on));
      cut();
    }
    this.#fault = 'none';
    w.failing.clear();
    w.space = space;
    w.readers.delete(1);
    await this.mustBeSound(when);
    await w.host.sleep(DAY * this.#random());
    if (this.#random() < 0.05) w.setClock((this.#random() - 0.5) * 20 * DAY);
    if (this.#random() < 0.1) {
      w.reboot();
      this.#boot();
      await this.mustBeSound(`${when}, and a restart`);
    }
  }

  contents(v: string): string {
    const nodes = this.w.volumes.get(`${POOL.path}/${v}`)?.nodes;
    return JSON.stringify([...(nodes ?? [])].map(([p, node]) => [p, node.text]));
  }

  textIn(v: string, path: string): string | undefined {
    return this.w.volumes.get(`${POOL.path}/${v}`)?.nodes.get(path)?.text;
  }

  /** One recovery without faults, and what must be true then. */
  async mustBeSound(when: string): Promise<void> {
    const { w } = this;
    const result: Recovered = await recover(this.#machine());
    w.newProcess();
    expect(result.stuck, when).toEqual([]);
    const on = this.#machine();
    const { host, paths } = on;
    const numbers = generationNumbers(host, paths);
    const stable = stableNumber(host, paths) ?? 0;
    expect(numbers, when).toContain(stable);
    expect(await isUsable(on, readableGeneration(host, paths, stable)), when).toBe(true);
    expect(whyDemoted(host, paths, stable), when).toBeUndefined();
    expect(pendingPromotion(host, paths), when).toBeUndefined();
    for (const state of ['candidate', 'retired'] as const)
      expect(generationNumbers(host, paths, state), when).toEqual([]);

    // No number is given twice, and what was sealed stays as it is.
    const last = lastNumber(host, paths) ?? 1;
    expect(last, when).toBeGreaterThanOrEqual(this.#greatest);
    this.#greatest = last;
    for (const number of numbers) {
      const volume = `generation/${number}`;
      const text = this.contents(volume);
      if (!this.sealed.has(number)) this.sealed.set(number, text);
      expect(text, when).toBe(this.sealed.get(number));
      expect(this.textIn(volume, '/usr/version'), `${when}: ${number}`).toBe(
        this.textIn(volume, '/etc/version'),
      );
      expect(this.textIn(volume, '/usr/share/xsessions/a.desktop'), when).toBeDefined();
    }
    const demoted = numbers.filter(number => whyDemoted(host, paths, number)?.startsWith('the first logins'));
    if (demoted.length > 0) this.#note('nights after a demotion by logins');
    if (probation(host, paths)?.number === stable) this.#note('nights on probation');
    for (const number of this.sealed.keys()) if (!numbers.includes(number)) this.sealed.delete(number);
    expect(this.textIn('master/master', '/usr/version'), when).toBe(
      this.textIn('master/master', '/etc/version'),
    );

    // The pool holds master, the generations on record and the volumes of sessions: no more, and not many.
    const sessions = readSessions(host, paths);
    const volumes = [...w.volumes.keys()].map(key => key.slice(POOL.path.length + 1)).sort();
    expect(volumes, when).toEqual(
      [
        'master/master',
        ...numbers.map(number => `generation/${number}`),
        ...sessions.map(s => `session/${s.id}`),
      ].sort(),
    );
    expect(w.discarded.size, when).toBe(0);
    expect(numbers.length, when).toBeLessThanOrEqual(MOST);
    for (const s of sessions) {
      expect(s.state, when).toBe('live');
      expect(this.textIn(`session/${s.id}`, '/etc/version'), when).toBe(
        this.textIn(`generation/${s.generation}`, '/etc/version'),
      );
    }
  }

  /** Everybody leaves, and two more nights are whole: what was held back is forgotten in the second. */
  async finish(): Promise<void> {
    const { w } = this;
    for (const s of readSessions(w.host, w.machine().paths))
      expect(await this.#command('a logout', on => end(on, s.id))).toBe(true);
    const change = this.#change('new');
    for (const night of ['the last but one', 'the last'])
      expect(
        await this.#command(`${night} update`, on =>
          update(on, { what: 'an update', origin: 'test', say: () => undefined, change }),
        ),
      ).toBe(true);
    await this.mustBeSound('the last night');
    const { host, paths } = w.machine();
    expect(stableNumber(host, paths)).toBe(generationNumbers(host, paths).at(-1));
    expect(this.textIn(`generation/${stableNumber(host, paths)}`, '/etc/version')).toBe(
      String(this.#version),
    );
    const s = await login(this.#machine(), callOf(w, 'alice', ':0'));
    await w.host.sleep(PROVEN_AFTER);
    if (s) await end(this.#machine(), s.id);
    w.newProcess();
    expect(probation(host, paths)).toBeUndefined();
    await this.mustBeSound('the last login');
  }

  /** What is on the machine besides the contents of volumes, with numbers left out. */
  traces(): string[] {
    const picture = JSON.parse(this.w.picture()) as Record<string, string[]>;
    const lines = ['files', 'mounts', 'processes', 'diversions'].flatMap(kind =>
      (picture[kind] ?? []).map(
        line =>
          `${kind} ${line
            .split(' ')
            .slice(0, kind === 'processes' ? 2 : 1)
            .join(' ')}`,
      ),
    );
    return [...new Set(lines.map(line => line.replace(/\d+/g, '#')))].sort();
  }

  /** How many files Mayfly has. */
  size(): number {
    const picture = JSON.parse(this.w.picture()) as { files: string[] };
    return picture.files.filter(line => line.includes('/mayfly')).length;
  }
}

const DESKTOP = {
  '/usr/share/xsessions/a.desktop': '[Desktop Entry]\nName=A\nExec=a\n',
  '/usr/bin/a': '',
};
const NO_DESKTOP = { '/usr/share/xsessions/a.desktop': undefined };

/**
 * Generations: those that are kept, the one to which failed logins fall back, one of each person, also if they have just
 * left, and one that a kill has kept from being removed, until the next update.
 */
const MOST = KEEP + 1 + PEOPLE.length + 1;

it('nights of updates leave a whole stable generation, nothing that is not known, and a pool that does not grow', async () => {
  const one = new Years(() => 0);
  await one.begin();
  await one.finish();
  const years = new Years(chance('nights'));
  await years.begin();
  const nights = count('NIGHTS', 20);
  for (let n = 1; n <= nights; n++) await years.night(n);
  await years.finish();
  console.log(
    [...years.happened]
      .map(([what, n]) => `${what}: ${n}`)
      .sort()
      .join('\n'),
  );
  expect(years.traces()).toEqual(one.traces());
  expect(years.size()).toBeLessThanOrEqual(one.size() + 6 * MOST);
});
