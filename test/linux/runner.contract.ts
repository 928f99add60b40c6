/** The contract of every runner of commands, with real programs. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { monotonic } from '../../src/linux/clock.ts';
import { type Command, type Runner, TOOL_ENV } from '../../src/linux/command.ts';
import { dryRun } from '../../src/linux/dry-run.ts';
import { realHost } from '../../src/linux/real-host.ts';

const NEVER = Number.POSITIVE_INFINITY;
/** A deadline that leaves a program time to start. */
const soon = (): number => monotonic() + 300;

export interface Lab {
  /** A new path. */
  path(): string;
  /** A named pipe that blocks its reader until `release`. */
  gate(): string;
  release(gate: string): void;
  /** Another process that runs a command with the runner. */
  process(mode: string, command: object, env?: NodeJS.ProcessEnv): ChildProcess;
}

export const until = async (what: () => boolean): Promise<void> => {
  while (!what()) await new Promise(yes => setTimeout(yes, 10));
};

export const ended = (child: ChildProcess): Promise<number> =>
  new Promise(yes => child.once('close', (code, signal) => yes(signal ? -1 : (code ?? -1))));

/** A directory and a process for the tests of one runner. */
export function runnerLab(name: string): Lab {
  let directory: string;
  let program: string;
  let count = 0;
  beforeAll(() => {
    directory = fs.mkdtempSync(`${tmpdir()}/mayfly-runner-`);
    program = `${directory}/process.cjs`;
    const entryPoints = [`${import.meta.dirname}/runner-process.ts`];
    buildSync({ entryPoints, bundle: true, platform: 'node', format: 'cjs', outfile: program });
  });
  afterAll(() => fs.rmSync(directory, { recursive: true }));
  const path = (): string => `${directory}/${++count}`;
  return {
    path,
    gate() {
      const gate = path();
      spawnSync('mkfifo', [gate]);
      return gate;
    },
    // In another process, because opening a named pipe blocks until it has a reader.
    release: gate => void spawn('sh', ['-c', 'echo go >"$1"', 'sh', gate], { stdio: 'ignore' }),
    process: (mode, command, env = process.env) =>
      spawn(process.execPath, [program, name, mode, JSON.stringify(command)], {
        env,
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
  };
}

const sh = (script: string, more: Partial<Command> = {}): Command => ({
  file: 'sh',
  args: ['-c', script],
  effect: 'read',
  ...more,
});

const isFree = (fd: number): boolean =>
  spawnSync('flock', ['-n', '-x', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] }).status === 0;

const isThere = (path: string): boolean => fs.existsSync(path);

export function runnerContract(name: string, runner: Runner): void {
  const lab = runnerLab(name);
  const run = (c: Command, deadline = NEVER) => runner.run(c, deadline);

  describe(`the ${name} runner runs a command`, () => {
    it('with literal arguments, which no shell reads', async () => {
      const args = ['%s|', '$HOME', '`id`', '; exit 3', '* && #', '', 'a b', '\'"\\', 'ä\n'];
      const { stdout } = await run({ file: 'printf', args, effect: 'read' });
      expect(stdout).toBe(
        args
          .slice(1)
          .map(a => `${a}|`)
          .join(''),
      );
    });

    it('with a fixed environment and no variable of the caller', async () => {
      const env = { ...process.env, LEAK: 'x', LC_ALL: 'de_DE.UTF-8', NODE_DEBUG: 'execa', LD_PRELOAD: '' };
      const child = lab.process('run', { file: 'env', args: ['-0'], effect: 'read' }, env);
      let [out, printed] = ['', ''];
      child.stdout?.on('data', data => {
        out += data;
      });
      child.stderr?.on('data', data => {
        printed += data;
      });
      expect(await ended(child)).toBe(0);
      const seen = JSON.parse(out).stdout.split('\0').filter(Boolean).sort();
      expect(seen).toEqual(
        Object.entries(TOOL_ENV)
          .map(([k, v]) => `${k}=${v}`)
          .sort(),
      );
      expect(seen).toContain('LC_ALL=C.UTF-8');
      expect(printed).not.toMatch(/execa|env -0/); // whatever NODE_DEBUG says
    });

    it('in the root directory, with an empty stdin', async () => {
      expect(await run(sh('pwd; cat'))).toEqual({ code: 0, stdout: '/\n', stderr: '' });
    });

    it('and returns its output unchanged', async () => {
      const said = await run(sh("printf 'a\\n\\n'; printf 'b\\n' >&2"));
      expect(said).toEqual({ code: 0, stdout: 'a\n\n', stderr: 'b\n' });
    });

    it('and waits for the output of the processes that it leaves behind', async () => {
      const gate = lab.gate();
      const running = run(sh(`{ read go <${gate}; echo late; } &`));
      lab.release(gate);
      expect((await running).stdout).toBe('late\n');
    });

    it('and discards the output if it has the effect "write"', async () => {
      expect(await run(sh('echo a; echo b >&2', { effect: 'write' }))).toEqual({
        code: 0,
        stdout: '',
        stderr: '',
      });
    });

    it('and accepts 101 MB of stdout beside 50 MB of stderr', async () => {
      const much = (n: number): string => `head -c ${n} /dev/zero | tr '\\0' x`;
      const said = await run(sh(`{ ${much(50_000_000)}; } >&2 & ${much(101_000_000)}; wait; echo end >&2`));
      expect(said.stdout.length).toBe(101_000_000);
      expect(said.stderr.length).toBe(65536);
      expect(said.stderr.endsWith('xxend\n')).toBe(true);
    });
  });

  describe(`the ${name} runner reports`, () => {
    it('an expected exit code as an answer', async () => {
      expect((await run(sh('exit 3', { okCodes: [0, 3] }))).code).toBe(3);
      expect((await run(sh('exit 0', { okCodes: [0, 3] }))).code).toBe(0);
    });

    it.each(['read', 'write'] as const)(
      'any other exit code as an error with facts, for a command with the effect "%s"',
      async effect => {
        const script = 'echo one >&2; echo two >&2; exit 3';
        await expect(run(sh(script, { effect, okCodes: [0, 4] }))).rejects.toMatchObject({
          code: 'command',
          message: `"sh -c ${script}" failed with exit code 3: one; two`,
          facts: { file: 'sh', args: ['-c', script], exitCode: 3, stderr: 'one\ntwo\n' },
        });
      },
    );

    it('an error without the arguments of a command that has a description', async () => {
      const c = sh('exit 1', { effect: 'write', describe: () => ['do it'] });
      await expect(run(c)).rejects.toThrow(/^"sh" failed with exit code 1$/);
    });

    it('a signal that killed the command', async () => {
      await expect(run(sh('kill -KILL $$'))).rejects.toMatchObject({
        code: 'command',
        message: '"sh -c kill -KILL $$" was killed by SIGKILL',
        facts: { exitCode: 255 },
      });
    });

    it.each([{}, { background: true }, { effect: 'write' as const }])(
      'a program that is not installed, with %j',
      async more => {
        const c: Command = { file: 'mayfly-no-such-tool', args: ['x'], effect: 'read', ...more };
        await expect(run(c)).rejects.toMatchObject({
          code: 'missing-tool',
          message: 'the program "mayfly-no-such-tool" is not installed',
          facts: { tool: 'mayfly-no-such-tool' },
        });
      },
    );

    it('a program that cannot be started', async () => {
      const file = lab.path();
      fs.writeFileSync(file, '', { mode: 0o644 });
      await expect(run({ file, args: [], effect: 'read' })).rejects.toMatchObject({ code: 'EACCES' });
      const args = ['x'.repeat(3_000_000)];
      await expect(run({ file: 'true', args, effect: 'read' })).rejects.toMatchObject({ code: 'E2BIG' });
    });
  });

  describe(`the ${name} runner passes on each line of stderr`, () => {
    it('as it comes, and an unfinished last line', async () => {
      const [gate, lines]: [string, string[]] = [lab.gate(), []];
      const script = `printf 'one\\n\\ntwo\\rth' >&2; read go <${gate}; printf 'ree\\n\\303' >&2; printf '\\244' >&2`;
      const running = run(sh(script, { effect: 'write', onLine: line => lines.push(line) }));
      await until(() => lines.length >= 2);
      expect(lines).toEqual(['one', 'two']);
      lab.release(gate);
      await running;
      expect(lines).toEqual(['one', 'two', 'three', 'ä']);
    });

    it('of a command that fails, whose error has them too', async () => {
      const lines: string[] = [];
      const c = sh('echo no >&2; printf never >&2; exit 2', { effect: 'write', onLine: l => lines.push(l) });
      await expect(run(c)).rejects.toThrow(/exit code 2: no; never$/);
      expect(lines).toEqual(['no', 'never']);
    });
  });

  describe(`the ${name} runner connects two commands by a pipe`, () => {
    const pipe = (source: string, script: string): Promise<{ stdout: string }> =>
      run(sh(script, { pipeFrom: { file: 'sh', args: ['-c', source] } }));

    it('and passes all data through it', async () => {
      expect((await pipe("head -c 20000000 /dev/zero; echo 'said' >&2", 'wc -c')).stdout).toBe('20000000\n');
    });

    it('and fails if only the writer fails', async () => {
      await expect(pipe('echo broken >&2; exit 5', 'cat')).rejects.toMatchObject({
        code: 'command',
        message: '"sh -c echo broken >&2; exit 5" failed with exit code 5: broken',
      });
    });

    it('and fails if the reader fails, though the writer would never end', async () => {
      const message = expect.stringMatching(
        /^"sh -c read line; exit 6" failed with exit code 6; "sh -c exec yes" /,
      );
      await expect(pipe('exec yes', 'read line; exit 6')).rejects.toMatchObject({
        code: 'command',
        message,
        facts: { exitCode: 6 },
      });
    });

    it('and reports both failures if both fail', async () => {
      await expect(pipe('echo cause >&2; exit 5', 'cat; echo so >&2; exit 6')).rejects.toThrow(
        /exit code 6: so; "sh -c .*" failed with exit code 5: cause$/,
      );
    });

    it('and reports which of them is not installed', async () => {
      const none = { file: 'mayfly-no-such-tool', args: [] };
      const missing = { code: 'missing-tool', facts: { tool: none.file } };
      await expect(run(sh('cat', { pipeFrom: none }))).rejects.toMatchObject(missing);
      const c: Command = { ...none, effect: 'read', pipeFrom: { file: 'echo', args: ['x'] } };
      await expect(run(c)).rejects.toMatchObject(missing);
    });
  });

  describe(`at the limit of a command the ${name} runner`, () => {
    it('kills it, does not wait for whoever keeps its output open, and returns what it wrote', async () => {
      const [gate, mark] = [lab.gate(), lab.path()];
      const script = `{ read go <${gate}; echo go >${mark}; } & echo $$; exec sleep 1000`;
      const { code, stdout } = await run(sh(script, { limit: 1500 }));
      expect(code).toBe(124);
      await until(() => !isThere(`/proc/${Number(stdout)}/fd`));
      lab.release(gate);
      await until(() => isThere(mark));
    });

    it('fails as usual if the deadline comes first', async () => {
      const gate = lab.gate();
      const c = sh(`read go <${gate}`, { limit: 1e9 });
      await expect(run(c, soon())).rejects.toMatchObject({ code: 'timeout' });
      lab.release(gate);
    });

    it('has returned the exit code if the command ended earlier', async () => {
      const said = await run(sh('echo a; exit 3', { limit: 1e9, okCodes: [3] }));
      expect(said).toEqual({ code: 3, stdout: 'a\n', stderr: '' });
    });
  });

  describe(`at the deadline the ${name} runner`, () => {
    it('starts nothing if it has passed', async () => {
      const mark = lab.path();
      const c = sh(`: >${mark}`, { effect: 'write' });
      const refused = { code: 'timeout', message: 'no time left to run "sh"' };
      await expect(run(c, monotonic() - 1)).rejects.toMatchObject(refused);
      expect(isThere(mark)).toBe(false);
    });

    it('stops waiting and does not kill: the command goes on and may write to stderr', async () => {
      const [gate, mark] = [lab.gate(), lab.path()];
      const script = `read go <${gate}; echo noise >&2; echo noise; echo done >${mark}`;
      await expect(run(sh(script, { effect: 'write' }), soon())).rejects.toMatchObject({
        code: 'timeout',
        message: `"sh -c ${script}" did not finish in time; it was left running`,
      });
      expect(isThere(mark)).toBe(false);
      lab.release(gate);
      await until(() => isThere(mark));
    });

    it('does not repeat a program that was passed as an argument', async () => {
      const gate = lab.gate();
      const c = sh(`read go <${gate}`, { effect: 'write', describe: () => ['wait'] });
      const message = '"sh" did not finish in time; it was left running';
      await expect(run(c, soon())).rejects.toMatchObject({ code: 'timeout', message });
      lab.release(gate);
    });

    it('stops waiting for both ends of a pipe', async () => {
      const gate = lab.gate();
      const c = sh('cat', { pipeFrom: { file: 'sh', args: ['-c', `read go <${gate}`] } });
      await expect(run(c, soon())).rejects.toMatchObject({ code: 'timeout' });
      lab.release(gate);
    });

    it('stops waiting also if the time of day is set back meanwhile', async () => {
      const gate = lab.gate();
      const begun = Date.now();
      const day = vi.spyOn(Date, 'now').mockReturnValue(begun - 3_600_000);
      try {
        const running = run(sh(`read go <${gate}`), soon());
        day.mockReturnValue(begun - 7_200_000);
        await expect(running).rejects.toMatchObject({ code: 'timeout' });
      } finally {
        day.mockRestore();
        lab.release(gate);
      }
    });

    it('has not waited if the command ended earlier', async () => {
      expect((await run(sh('echo x'), monotonic() + 600_000)).stdout).toBe('x\n');
    });
  });

  describe(`a command of the ${name} runner goes on`, () => {
    const workIn = () => {
      const [gate, started, mark] = [lab.gate(), lab.path(), lab.path()];
      const c = sh(`: >${started}; read go <${gate}; echo x >&2; echo done >${mark}`, { effect: 'write' });
      return { gate, mark, command: { ...c, started } };
    };

    it('after this process has ended', async () => {
      const { gate, mark, command } = workIn();
      expect(await ended(lab.process('leave', command))).toBe(0);
      lab.release(gate);
      await until(() => isThere(mark));
    });

    it.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const)(
      'after %s has ended this process',
      async signal => {
        const { gate, mark, command } = workIn();
        const us = lab.process('run', command);
        await until(() => isThere(command.started));
        us.kill(signal);
        expect(await ended(us)).toBe(-1);
        lab.release(gate);
        await until(() => isThere(mark));
      },
    );

    it('in the background after it has started', async () => {
      const [gate, mark] = [lab.gate(), lab.path()];
      const c = sh(`read go <${gate}; echo done >${mark}; exit 1`, { effect: 'write', background: true });
      expect(await run(c)).toEqual({ code: 0, stdout: '', stderr: '' });
      expect(isThere(mark)).toBe(false);
      lab.release(gate);
      await until(() => isThere(mark));
    });
  });

  describe(`a command of the ${name} runner inherits a lock`, () => {
    /** Leaves a command running that has inherited a lock, and closes our descriptor of it. */
    async function leave(script: (gate: string) => string, more: Partial<Command>) {
      const [path, gate] = [lab.path(), lab.gate()];
      const mine = fs.openSync(path, 'w');
      expect(isFree(mine)).toBe(true); // and now it is ours
      const c = sh(script(gate), { effect: 'write', inheritFds: [mine], ...more });
      if (more.background) await run(c);
      else await expect(run(c, soon())).rejects.toMatchObject({ code: 'timeout' });
      fs.closeSync(mine);
      return { gate, fd: fs.openSync(path, 'w') };
    }

    it.each([{}, { background: true }])('and keeps it after we have closed it, with %j', async more => {
      const { gate, fd } = await leave(g => `read go <${g}`, more);
      expect(isFree(fd)).toBe(false);
      lab.release(gate);
      await until(() => isFree(fd)); // after the command has ended
      fs.closeSync(fd);
    });

    it('and keeps it although it closes inherited descriptors, if that was announced', async () => {
      const { gate, fd } = await leave(g => `exec 3>&-; read go <${g}`, { closesInheritedFds: true });
      expect(isFree(fd)).toBe(false);
      lab.release(gate);
      await until(() => isFree(fd));
      fs.closeSync(fd);
    });

    it('and loses it if it closes inherited descriptors and that was not announced', async () => {
      const { gate, fd } = await leave(g => `exec 3>&-; read go <${g}`, {});
      await until(() => isFree(fd)); // although the command still runs
      lab.release(gate);
      fs.closeSync(fd);
    });

    it('as descriptor 3, a second one as 4, and no other file of ours', async () => {
      const files = [lab.path(), lab.path(), lab.path()];
      const [a = 0, b = 0, other = 0] = files.map(f => fs.openSync(f, 'w'));
      const script = 'for fd in /proc/$$/fd/*; do echo $(basename $fd) $(readlink $fd); done';
      const { stdout } = await run(sh(script, { inheritFds: [b, a] }));
      const ours = stdout.split('\n').filter(line => files.some(f => line.endsWith(` ${f}`)));
      expect(ours).toEqual([`3 ${files[1]}`, `4 ${files[0]}`]);
      for (const fd of [a, b, other]) fs.closeSync(fd);
    });
  });

  it(`in a dry run the ${name} runner runs only commands with the effect "read"`, async () => {
    const [mark, told]: [string, string[]] = [lab.path(), []];
    const host = dryRun(realHost({ runner }), line => told.push(line));
    expect((await host.run(sh('echo x'))).stdout).toBe('x\n');
    expect(await host.run(sh(`: >${mark}`, { effect: 'write' }))).toEqual({
      code: 0,
      stdout: '',
      stderr: '',
    });
    expect(await host.runInteractive({ file: 'touch', args: [mark] }, false)).toBe(0);
    expect([told, isThere(mark)]).toEqual([[`run sh -c : >${mark}`, `run touch ${mark}`], false]);
  });
}
