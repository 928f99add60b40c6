/** The contract of both runners, and interactive programs, which only the runner of the command line has. */
import * as fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { execaRunner } from '../../src/linux/execa-runner.ts';
import { leanRunner } from '../../src/linux/lean-runner.ts';
import { realHost } from '../../src/linux/real-host.ts';
import { ended, runnerContract, runnerLab, until } from './runner.contract.ts';

runnerContract('lean', leanRunner);
runnerContract('execa', execaRunner);

describe('an interactive program', () => {
  const lab = runnerLab('execa');
  const sh = (script: string) => ({ file: 'sh', args: ['-c', script] });

  it('has our environment and not that of the caller, and returns its exit code', async () => {
    const out = lab.path();
    const child = lab.process('interactive', sh(`echo "$WORD $PATH" >${out}; exit 7`), {
      ...process.env,
      WORD: 'mine',
      PATH: `/nowhere:${process.env.PATH}`,
    });
    expect(await ended(child)).toBe(7);
    expect(fs.readFileSync(out, 'utf8')).toBe(' /usr/sbin:/usr/bin:/sbin:/bin\n');
  });

  it('is started when the call returns, so that it is born in the control group of this process', async () => {
    const children = lab.path();
    expect(await ended(lab.process('interactive', { ...sh('exit 0'), children }))).toBe(0);
    expect(fs.readFileSync(children, 'utf8')).toMatch(/^\d+ $/);
  });

  it('has the terminal as stdin and stdout', async () => {
    const out = lab.path();
    const child = lab.process('interactive', {
      file: 'script',
      args: ['-qec', `sh -c 'test -t 0 && test -t 1 && echo yes >${out}'`, '/dev/null'],
    });
    expect(await ended(child)).toBe(0);
    expect(fs.readFileSync(out, 'utf8')).toBe('yes\n');
  });

  it.each([
    ['interactive', false],
    ['own', true],
  ] as const)('has a process session of its own if asked for: %s', async (mode, own) => {
    const out = lab.path();
    expect(await ended(lab.process(mode, sh(`ps -o sid= -p $$ >${out}; echo $$ >>${out}`)))).toBe(0);
    const [sid, pid] = fs.readFileSync(out, 'utf8').split(/\s+/).filter(Boolean);
    expect(sid === pid).toBe(own);
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'] as const)(
    'gets %s when this process gets it',
    async signal => {
      const started = lab.path();
      const script = `trap 'exit 9' ${signal.slice(3)}; : >${started}; while :; do sleep 0.01; done`;
      const us = lab.process('own', sh(script));
      await until(() => fs.existsSync(started));
      us.kill(signal);
      expect(await ended(us)).toBe(9);
    },
  );

  it('is not killed when it takes longer than five seconds to end after SIGTERM', async () => {
    const started = lab.path();
    const us = lab.process(
      'own',
      sh(`trap 'sleep 6; exit 8' TERM; : >${started}; while :; do sleep 0.1; done`),
    );
    await until(() => fs.existsSync(started));
    us.kill('SIGTERM');
    expect(await ended(us)).toBe(8);
  });

  it('returns 128 plus the signal that killed it, and is named if it is not installed', async () => {
    expect(await ended(lab.process('own', sh('kill -KILL $$')))).toBe(137);
    const missing = { file: 'mayfly-no-such-tool', args: [] };
    await expect(execaRunner.runInteractive?.(missing, false)).rejects.toMatchObject({
      code: 'missing-tool',
      facts: { tool: missing.file },
    });
  });

  it('cannot be run by a hook', async () => {
    await expect(realHost().runInteractive({ file: 'true', args: [] }, false)).rejects.toMatchObject({
      code: 'internal',
    });
  });
});
