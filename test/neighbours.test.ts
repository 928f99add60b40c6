/** What the package tells other programs of the machine. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { realHost } from '../src/linux/real-host.ts';
import { tagSessions, untagSessions } from '../src/update/cache-tag.ts';
import { prepareLayout } from '../src/volume/directory-layout.ts';

const DEBIAN = `${import.meta.dirname}/../debian`;

function run(file: string, args: readonly string[]): string {
  const r = spawnSync(file, args, { encoding: 'utf8' });
  expect(r.stderr).toBe('');
  return r.stdout;
}

it('needrestart restarts none of the units that end by themselves, and may restart the service', () => {
  const units = fs
    .readdirSync(DEBIAN)
    .flatMap(name => /^(?:mayfly\.)?(mayfly.*\.service)$/.exec(name)?.[1] ?? [])
    .map(name => name.replace('@.', '@u1001-0a0b0c0d.'));
  expect(units.length).toBeGreaterThan(4);
  // As needrestart does it: a pattern of 0 means that the unit is only listed.
  const program = `our %nrconf = (override_rc => { qr(^gdm) => 0 });
    eval do { local(@ARGV, $/) = shift; <> }; die $@ if $@;
    for my $unit (@ARGV) { print "$unit\\n" if grep { $unit =~ /$_/ && !$nrconf{override_rc}->{$_} } keys %{ $nrconf{override_rc} } }`;
  const kept = run('perl', ['-e', program, `${DEBIAN}/mayfly.needrestart.conf`, ...units, 'gdm.service']);
  const ends = (unit: string): boolean => unit !== 'mayfly.service'; // all others are of the type "oneshot"
  expect(kept.trim().split('\n')).toEqual([...units.filter(ends), 'gdm.service']);
});

describe('a backup that leaves out caches', () => {
  const host = realHost();
  it('has no session, and everything else of the pool', () => {
    const dir = fs.mkdtempSync(`${tmpdir()}/mayfly-neighbours-`);
    try {
      const pool = `${dir}/pool`;
      prepareLayout(host, pool);
      tagSessions(host, pool);
      tagSessions(host, pool);
      for (const path of ['master/etc', 'generations/1/etc', 'sessions/u1001-0a0b0c0d/upper']) {
        fs.mkdirSync(`${pool}/${path}`, { recursive: true });
        fs.writeFileSync(`${pool}/${path}/file`, '');
      }
      const kept = run('tar', ['-C', dir, '-c', '--exclude-caches', '-f', `${dir}/tar`, 'pool']);
      expect(kept).toBe('');
      const files = run('tar', ['-tf', `${dir}/tar`])
        .split('\n')
        .filter(name => !name.endsWith('/') && name);
      expect(files.sort()).toEqual([
        'pool/.mayfly-pool',
        'pool/generations/1/etc/file',
        'pool/master/etc/file',
        'pool/sessions/CACHEDIR.TAG',
      ]);
      fs.rmSync(`${pool}/sessions/u1001-0a0b0c0d`, { recursive: true });
      untagSessions(host, pool);
      untagSessions(host, pool);
      expect(fs.readdirSync(`${pool}/sessions`)).toEqual([]);
    } finally {
      fs.rmSync(dir, { recursive: true });
    }
  });
  it.each(['ENOSPC', 'EDQUOT', 'EROFS'])(
    'has it not where the mark cannot be written (%s), which keeps nothing from going on',
    code => {
      const dir = fs.mkdtempSync(`${tmpdir()}/mayfly-neighbours-`);
      try {
        prepareLayout(host, `${dir}/pool`);
        const write = (): never => {
          throw Object.assign(new Error(code), { code });
        };
        expect(() => tagSessions({ ...host, write }, `${dir}/pool`)).not.toThrow();
        untagSessions(host, `${dir}/pool`);
      } finally {
        fs.rmSync(dir, { recursive: true });
      }
    },
  );
  it('has nothing to do with a pool on devices', () => {
    for (const act of [tagSessions, untagSessions])
      for (const pool of ['/dev/no-group/mayfly', '/dev/null']) expect(() => act(host, pool)).not.toThrow();
  });
});
