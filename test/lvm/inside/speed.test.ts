/**
 * What a login and a logout take, against the commands of LVM and mount(8) that a shell script would run for the
 * volume alone. Both in turns, so that what else the machine does hits both; an emulator's times mean nothing, their
 * ratio does.
 */
import * as fs from 'node:fs';
import { expect, it } from 'vitest';
import { forgetUsers, Lab, sh, user } from '../../system/lab.ts';
import { makeMiniTree } from '../../system/mini.ts';
import { GROUP } from './bench.ts';

const A = 'mayfly-a';
const TURNS = Number(process.env.MAYFLY_ROUNDS ?? 5);

const BEGIN = {
  'lvm-thin': 'lvcreate -q -s -n plain -ay -K "$1" && mount "/dev/$2/plain" "$3"',
  lvm: 'lvcreate -q -s -l 20%ORIGIN -n plain -ay -K "$1" && mount "/dev/$2/plain" "$3"',
};
const END = 'umount "$3" && lvremove -q -y "$2/plain"';

it.each(['lvm-thin', 'lvm'] as const)(`${TURNS} logins and logouts on %s, against a shell's`, backend => {
  user(A);
  const lab = new Lab();
  const from = makeMiniTree(`${lab.dir}/tree`);
  expect(lab.mayfly('init', '--backend', backend, '--from', from, '--quiet')).toMatchObject({ code: 0 });
  const at = `${lab.dir}/plain`;
  fs.mkdirSync(at);
  const timed = (act: () => { code: number }): number => {
    const begun = performance.now();
    expect(act()).toMatchObject({ code: 0 });
    return performance.now() - begun;
  };
  const origin = `${GROUP}/${lab.lvmName}-generation-1`;
  const plain = (script: string) => sh('sh', ['-c', script, 'sh', origin, GROUP, at]);
  timed(() => lab.hook('start', A)); // the first ones make what is made once
  timed(() => lab.hook('stop', A));
  const turns = Array.from({ length: TURNS }, () => ({
    begin: timed(() => plain(BEGIN[backend])),
    end: timed(() => plain(END)),
    start: timed(() => lab.hook('start', A)),
    stop: timed(() => lab.hook('stop', A)),
    node: timed(() => sh('node', ['-e', '0'])),
  }));
  const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] ?? 0;
  const of = (what: keyof (typeof turns)[number]): number => median(turns.map(t => t[what]));
  const ratio = (a: 'start' | 'stop', b: 'begin' | 'end'): string =>
    `${median(turns.map(t => t[a] / t[b])).toFixed(2)} (${of(a).toFixed(0)} / ${of(b).toFixed(0)} ms)`;
  console.log(
    `${backend}: login ${ratio('start', 'begin')}, logout ${ratio('stop', 'end')}; node alone ${of('node').toFixed(0)} ms`,
  );
  lab.close();
  forgetUsers();
});
