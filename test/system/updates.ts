/** What tests of updates ask: what is as it was, what is left running, and whether people still get in. */
import * as fs from 'node:fs';
import { expect } from 'vitest';
import type { BackendKind } from '../../src/volume/backend.ts';
import { Lab, must, type Ran, sh, tarball } from './lab.ts';

/** A lab with generation 1, an update that failed, and the pool in memory: disks can be slow with whole trees. */
export function quickLab(backend: BackendKind, name: string): Lab {
  const lab = new Lab();
  if (backend === 'overlay') {
    fs.mkdirSync(`${lab.dir}/pool`);
    must('mount', ['-t', 'tmpfs', '-o', 'size=3G', 'mayfly-test', `${lab.dir}/pool`]);
  }
  expect(lab.mayfly('init', '--backend', backend, '--from', tarball())).toMatchObject({ code: 0 });
  loginWorks(lab, name);
  attempt(lab, { run: 'false' }); // so that there is a record of updates
  return lab;
}

export function closeQuickLab(lab: Lab): void {
  for (const s of lab.records()) lab.mayfly('end', s.id);
  expect(lab.mayfly('destroy', '--yes')).toMatchObject({ code: 0 });
  if (fs.existsSync(`${lab.dir}/pool`)) sh('umount', [`${lab.dir}/pool`]);
  lab.close();
}

/** Everything a failed update must leave as it was, which is all but the record of the failure. */
export function standing(lab: Lab): Record<string, unknown> {
  // On btrfs, the space of a session that has ended is free only after the next commit.
  const { usage, update, discarded, ...status } = JSON.parse(lab.mayfly('status', '--json').out);
  const rows = ['-xdev', '-printf', '%P %y %m %U %G %s %T@ %l\\n'];
  const { files, inode } = lab.withMaster(master => ({
    files: must('find', [master, ...rows]),
    inode: fs.statSync(master).ino,
  }));
  return { ...status, picture: lab.picture(), inode, files, running: running() };
}

/** The sleeps that tests of updates start. What is left in the lab's trees is a part of its picture. */
export function running(): string[] {
  return sh('pgrep', ['-fa', '^sleep 86[0-9]{5}$']).out.split('\n').filter(Boolean);
}

/** A process and all it has started, as "pid start program". */
export function family(pid: number): string[] {
  const read = (path: string): string => {
    try {
      return fs.readFileSync(path, 'utf8');
    } catch {
      return ''; // it has ended
    }
  };
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number);
  const stat = read(`/proc/${pid}/stat`);
  const start = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  const own = stat === '' ? [] : [`${pid} ${start} ${read(`/proc/${pid}/comm`).trim()}`];
  return [...own, ...children.flatMap(family)];
}

/** A login, a look and a logout. What the generation is proven by, a session that lasts, is only pretended. */
export function loginWorks(lab: Lab, name: string): void {
  expect(lab.hook('start', name)).toMatchObject({ code: 0, err: '' });
  expect(lab.inside(name, 'sh', '-c', 'id -un').out).toBe(`${name}\n`);
  expect(lab.hook('stop', name)).toMatchObject({ code: 0, err: '' });
  fs.rmSync(`${lab.dir}/state/probation.json`, { force: true });
}

export const stable = (lab: Lab): number => JSON.parse(lab.mayfly('status', '--json').out).stable;

export interface Attempt {
  /** The refresh, for "sh -c". Default: something harmless. */
  readonly run?: string;
  /** Lines for the configuration before all, and for [update] and [check]. */
  readonly before?: string;
  readonly update?: string;
  readonly check?: string;
  /** Scripts by place beside the configuration file. */
  readonly scripts?: Readonly<Record<string, string>>;
  readonly mode?: number;
  /** Of the command. */
  readonly options?: readonly string[];
}

/** One update as described. */
export function attempt(lab: Lab, a: Attempt): Ran {
  const command = `command = ["sh", "-c", ${JSON.stringify(a.run ?? 'echo again >>/etc/broken')}]\n`;
  const own = /^(sources|command) =/m.test(a.update ?? '') ? '' : command;
  lab.configure(`${a.before ?? ''}[update]\n${own}${a.update ?? ''}\n[check]\n${a.check ?? ''}\n`);
  const scripts = Object.entries(a.scripts ?? {}).map(
    ([place, text]) => [`${lab.dir}/${place}`, text] as const,
  );
  for (const [path, text] of scripts) {
    fs.mkdirSync(path.replace(/\/[^/]*$/, ''), { recursive: true });
    fs.writeFileSync(path, `#!/bin/sh\n${text}\n`);
    fs.chmodSync(path, a.mode ?? 0o755);
  }
  try {
    return lab.mayfly('update', ...(a.options ?? []));
  } finally {
    for (const [path] of scripts) fs.rmSync(path);
    lab.configure(a.before ?? '');
  }
}

export interface Refusal extends Attempt {
  /** Default: 1. */
  readonly code?: number;
  readonly phase: string;
  /** The reason, as it is told and remembered. */
  readonly says: RegExp;
}

/** An update that must not get anywhere: readable, remembered, without a trace, and nobody is kept from logging in. */
export function refused(lab: Lab, name: string, a: Refusal): void {
  const before = standing(lab);
  const r = attempt(lab, a);
  const reason = /\nmayfly: an update failed in "(\w+)": (.*)\n(hint: .*\n)?$/.exec(r.err);
  expect(reason?.[2] ?? r.err).toMatch(a.says);
  expect(reason?.[1]).toBe(a.phase);
  expect(r).toMatchObject({ code: a.code ?? 1, out: '' });
  const { update } = JSON.parse(lab.mayfly('status', '--json').out);
  expect(update.history).toMatchObject({ result: 'failed', phase: a.phase, reason: reason?.[2] });
  expect(update.running).toBeNull();
  expect(standing(lab)).toEqual(before);
  loginWorks(lab, name);
}
