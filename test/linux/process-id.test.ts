/** Which processes count as running. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { identify, isAlive } from '../../src/linux/process-id.ts';
import { realHost } from '../../src/linux/real-host.ts';

const host = realHost();

it('identifies a running process by its start time', () => {
  const me = identify(host, process.pid);
  expect(me).toEqual({ pid: process.pid, start: expect.stringMatching(/^\d+$/) });
  expect(me && isAlive(host, me)).toBe(true);
  expect(me && isAlive(host, { ...me, start: '1' })).toBe(false);
});

it('takes a process that has ended for gone before its parent has waited for it', async () => {
  // The child ends at once; its parent lives on and never waits.
  const parent = spawn('perl', [
    '-e',
    '$| = 1; my $p = fork // die; exit 0 unless $p; print "$p\\n"; sleep 60',
  ]);
  try {
    const child = Number(await new Promise<string>(yes => parent.stdout.once('data', d => yes(String(d)))));
    const state = (): string => readFileSync(`/proc/${child}/stat`, 'utf8').split(') ')[1]?.[0] ?? '';
    while (state() !== 'Z') await new Promise(yes => setTimeout(yes, 5));
    expect(identify(host, child)).toBeUndefined();
  } finally {
    parent.kill('SIGKILL');
  }
});
