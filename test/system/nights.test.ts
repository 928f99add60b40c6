/**
 * Nights of one machine with real trees: the refresh brings something new or nothing, fails, breaks a check, takes the
 * desktop away or is killed, while some people stay over the night and others come and go. After each night the machine is
 * sound; at the end it is as after its first night. test/update/nights.test.ts has years of them, in memory.
 */
import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chance, count } from '../campaign.ts';
import { BACKENDS, forgetUsers, killTree, Lab, MAYFLY, type Ran, sh, sleep, until, user } from './lab.ts';
import { makeMiniTree } from './mini.ts';

const NIGHTS = count('UPDATES', 8);
const KEEP = 2;
const PEOPLE = ['mayfly-na', 'mayfly-nb', 'mayfly-nc'];
const DESKTOP = '/usr/share/xsessions/a.desktop';

/** What a refresh does, as a shell script: its first argument is the tree, `$N` a new version. */
const REFRESHES: Readonly<Record<string, string>> = {
  new: 'echo $N >$1/etc/version',
  nothing: ':',
  fails: 'echo $N >$1/etc/version; exit 3',
  'breaks a check': 'echo $N >$1/etc/version; echo broken >$1/etc/state',
  'takes the desktop': `echo $N >$1/etc/version; rm $1${DESKTOP}`,
};
const PROMOTED = ['new', 'nothing'];

describe.each(BACKENDS)('nights on %s', backend => {
  let lab: Lab;
  let version = 0;
  let greatest = 1;
  /** What each generation held when it was first seen. */
  const sealed = new Map<string, string | undefined>();

  beforeAll(() => {
    for (const name of PEOPLE) user(name);
    lab = new Lab();
    const tree = makeMiniTree(`${lab.dir}/tree`, ['grep']);
    fs.mkdirSync(`${tree}${DESKTOP}`.replace(/\/[^/]*$/, ''), { recursive: true });
    fs.writeFileSync(`${tree}${DESKTOP}`, '[Desktop Entry]\nType=Application\nName=A\nExec=/usr/bin/true\n');
    fs.mkdirSync(`${tree}/etc/X11`);
    fs.writeFileSync(`${tree}/etc/X11/Xsession`, '#!/bin/sh\n', { mode: 0o755 });
    fs.writeFileSync(`${tree}/etc/version`, '0\n');
    const r = lab.mayfly('init', '--backend', backend, '--from', tree, '--quiet');
    if (r.code !== 0) throw new Error(r.err);
    fs.mkdirSync(`${lab.dir}/refresh.d`);
    fs.mkdirSync(`${lab.dir}/checks.d`);
    fs.writeFileSync(`${lab.dir}/checks.d/state`, '#!/bin/sh\n! grep -q broken "$1/etc/state" 2>&1\n', {
      mode: 0o755,
    });
    lab.configure(`[update]\ncommand = ["true"]\nkeep = ${KEEP}\n`);
  });
  afterAll(() => {
    lab.close();
    forgetUsers();
  });

  function refreshWith(what: string): string[] {
    version += 1;
    const script = `#!/bin/sh\nset -e\nN=${version}\n${REFRESHES[what]}\n`;
    fs.writeFileSync(`${lab.dir}/refresh.d/night`, script, { mode: 0o755 });
    return ['update', '--quiet'];
  }

  const stable = (): number => Number(/(\d+)\.json$/.exec(fs.readlinkSync(`${lab.dir}/state/stable`))?.[1]);

  function mustBeSound(when: string): void {
    const known = fs
      .readdirSync(`${lab.dir}/state/generations`)
      .flatMap(name => /^(\d+)\.json$/.exec(name)?.[1] ?? []);
    const pool = lab.inPool();
    expect(pool.generations, when).toEqual(known.sort());
    expect(pool.others, when).toEqual(['master']);
    expect(pool.sessions, when).toEqual(
      lab
        .records()
        .map(s => s.id)
        .sort(),
    );
    expect(known, when).toContain(String(stable()));
    // Those that are kept, one for each person, and one that a kill has kept from being removed until the next night.
    expect(known.length, when).toBeLessThanOrEqual(KEEP + PEOPLE.length + 2);
    expect(stable(), when).toBeGreaterThanOrEqual(greatest);
    greatest = stable();
    for (const number of known) {
      const text = lab.inGeneration(Number(number), '/etc/version');
      if (!sealed.has(number)) sealed.set(number, text);
      expect(text, `${when}: ${number}`).toBe(sealed.get(number));
      expect(lab.inGeneration(Number(number), DESKTOP), `${when}: ${number}`).toBeDefined();
    }
    for (const s of lab.records()) expect(lab.inside(s.user.name, 'true'), when).toMatchObject({ code: 0 });
    expect(lab.inMaster('/etc/version'), when).toBe(lab.inGeneration(stable(), '/etc/version'));
  }

  /** Whoever is in leaves, whoever is not comes in; both at random. */
  function comeAndGo(random: () => number, when: string): void {
    for (const [i, name] of PEOPLE.entries()) {
      if (random() < 0.5) continue;
      const action = lab.session(name) ? 'stop' : 'start';
      expect(lab.hook(action, name, `:${i}`), `${when}: ${action} ${name}`).toMatchObject({ code: 0 });
      if (action === 'start')
        expect(lab.inside(name, 'cat', '/etc/version').out, when).toBe(
          lab.inGeneration(stable(), '/etc/version'),
        );
    }
  }

  /** An update that is killed after a while, if it has not ended then; with all it has started, or alone. */
  async function killed(args: readonly string[], after: number, alone: boolean): Promise<void> {
    const child = spawn('node', [MAYFLY, ...args, '--config', lab.config], { cwd: '/', stdio: 'ignore' });
    const ended = new Promise(yes => child.on('close', yes));
    await Promise.race([sleep(after), ended]);
    if (alone) child.kill('SIGKILL');
    else killTree(child.pid ?? 0);
    await ended;
    await until(() => sh('flock', ['-n', `${lab.dir}/run/locks/update`, 'true']).code === 0, 20_000);
  }

  function night(what: string): Ran {
    const [verb = '', ...args] = refreshWith(what);
    return lab.mayfly(verb, ...args);
  }

  it(`${NIGHTS} of them leave a whole stable generation, nothing that is not known, and a pool that does not grow`, async () => {
    const random = chance(`nights on ${backend}`);
    const begun = performance.now();
    expect(night('new')).toMatchObject({ code: 0 });
    const span = performance.now() - begun;
    mustBeSound('the first night');
    const before = lab.picture();
    const tally = new Map<string, number>();
    for (let n = 1; n <= NIGHTS; n++) {
      const kinds = ['new', 'new', ...Object.keys(REFRESHES)];
      const what = kinds[Math.floor(random() * kinds.length)] ?? 'new';
      const isKilled = random() < 0.4;
      const when = `night ${n}: ${what}${isKilled ? ', killed' : ''}, MAYFLY_SEED and title are above`;
      comeAndGo(random, `the day before ${when}`);
      const last = stable();
      if (isKilled) await killed(refreshWith(what), span * random(), random() < 0.5);
      else {
        const r = night(what);
        expect(r.code === 0, `${when}: ${r.err}`).toBe(PROMOTED.includes(what));
        expect(stable() > last, when).toBe(what === 'new');
      }
      if (isKilled && random() < 0.3) {
        // Recovery is cut short, too.
        const child = spawn('node', [MAYFLY, 'recover', '--config', lab.config], {
          cwd: '/',
          stdio: 'ignore',
        });
        const ended = new Promise(yes => child.on('close', yes));
        await sleep(300 * random());
        killTree(child.pid ?? 0);
        await ended;
      }
      expect(lab.mayfly('recover'), when).toMatchObject({ code: 0 });
      mustBeSound(when);
      const word = `${what}${isKilled ? ', killed' : ''}`;
      tally.set(word, (tally.get(word) ?? 0) + 1);
    }
    for (const [i, name] of PEOPLE.entries())
      if (lab.session(name)) expect(lab.hook('stop', name, `:${i}`)).toMatchObject({ code: 0 });
    for (let i = 0; i < 2; i++) expect(night('new')).toMatchObject({ code: 0 });
    mustBeSound('the last night');
    expect(
      fs.readdirSync(`${lab.dir}/state/generations`).filter(n => n.endsWith('.json')).length,
    ).toBeLessThanOrEqual(KEEP + 2);
    const numbered = (picture: Record<string, unknown>): unknown =>
      JSON.parse(JSON.stringify(picture, (_, v) => (typeof v === 'string' ? v.replace(/\d+/g, '#') : v)));
    const kinds = (picture: Record<string, unknown>): Record<string, string[]> =>
      Object.fromEntries(
        Object.entries(numbered(picture) as Record<string, string[]>).map(([k, v]) => [
          k,
          [...new Set(v)].sort(),
        ]),
      );
    expect(kinds(lab.picture())).toEqual(kinds(before));
    console.log(
      `${backend}: ${[...tally]
        .map(([w, n]) => `${w}: ${n}`)
        .sort()
        .join('; ')}`,
    );
  });
});
