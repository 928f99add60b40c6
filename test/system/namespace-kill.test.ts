/**
 * Logins and logouts that are killed at random moments, on the system's own instance, where each process that enters a
 * session has a mount namespace of its own: in a mount and process namespace of their own, with the real schroot and our
 * PAM module.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chance, count, moments } from '../campaign.ts';
import { BACKENDS, MAYFLY } from './lab.ts';
import { makeMiniTree } from './mini.ts';
import { ALICE, BOB, makeNamespaceLab, type NamespaceLab } from './namespace-lab.ts';

/** Per backend and kind. */
const KILLS = count('KILLS', 8);
const HOOKS = `${process.cwd()}/hooks`;

let lab: NamespaceLab;
beforeAll(() => {
  lab = makeNamespaceLab();
  makeMiniTree(`${lab.dir}/tree`, ['perl', 'unshare', 'mount', 'mkdir', 'readlink']);
});
afterAll(() => lab.close());

/** What a person leaves in a session: a process that ignores TERM, one in a namespace of its own, and a mount. */
const PROCESSES = `
  enter sh -c 'trap "" TERM; while :; do sleep infinity; done' &
  enter unshare -Urm sh -c 'mount -t tmpfs none /tmp; exec sleep infinity' &
  n=0; until [ "$(pgrep -c -u ${ALICE} -x sleep)" = 2 ] || [ $n -gt 500 ]; do n=$((n + 1)); sleep 0.02; done`;

/** By kind: what comes before the command that is killed, and that command. */
const KINDS: Readonly<Record<string, readonly [before: string, command: string]>> = {
  'a login': ['', 'hook setup :0 alice'],
  'a logout': [`hook setup :0 alice; ${PROCESSES}`, 'hook cleanup :0 alice'],
  'mayfly end': [`hook setup :0 alice; ${PROCESSES}`, 'mayfly end alice --quiet'],
};

/** Begins `command` undisturbed twice for the time it takes, and then kills it at each moment until `kills` were in time. */
const campaign = (before: string, command: string, at: readonly number[]): string => `
  as_before=; until now=$(picture); [ "$now" = "$as_before" ]; do as_before=$now; sleep 0.5; done # what the login began ends
  for round in 1 2; do
    ${before}
    begun=$(date +%s%N); ${command} >/dev/null 2>&1; span=$((($(date +%s%N) - begun) / 1000))
    hook cleanup :0 alice >/dev/null 2>&1; pkill -KILL -u ${ALICE}; mayfly recover --quiet
  done
  killed=0
  for moment in ${at.map(m => Math.floor(m * 1000)).join(' ')}; do
    [ $killed -lt ${KILLS} ] || break
    ${before}
    ${command} >/dev/null 2>&1 & hook=$!
    sleep $(printf '%d.%06d' $((span * moment / 1000 / 1000000)) $((span * moment / 1000 % 1000000)))
    kill -KILL $(tree $hook) 2>/dev/null
    wait $hook 2>/dev/null; [ $? != 137 ] || killed=$((killed + 1))
    mayfly recover --quiet || echo "recover failed at $moment"
    if [ -e /run/mayfly/users/${ALICE}/session ]; then
      enter true || echo "the session that is left cannot be entered, at $moment"
      hook cleanup :0 alice || echo "the logout failed at $moment"
    fi
    n=0; until [ "$(picture)" = "$as_before" ] || [ $n -gt 1200 ]; do n=$((n + 1)); sleep 0.05; done # what is being erased
    [ "$(picture)" = "$as_before" ] || { echo "left at $moment:"; echo "$as_before" >/run/mayfly/before; picture | diff /run/mayfly/before -; }
    as ${BOB} schroot -c $B -d / -- true || echo "bob cannot enter at $moment"
    [ "$(pgrep -c -u ${BOB} -x sleep)" = 1 ] || echo "bob's process is gone at $moment"
    pkill -KILL -u ${ALICE}
  done
  echo "killed $killed times, of about $((span / 1000)) ms"`;

describe.each(BACKENDS.filter(b => b === 'overlay' || b === 'btrfs'))('kills on %s', backend => {
  it.each(Object.keys(KINDS))(
    `of %s, ${KILLS} times: one recover leaves nothing, and the neighbour lives`,
    kind => {
      const random = chance(`kills of ${kind} in namespaces on ${backend}`);
      const [before, command] = KINDS[kind] ?? ['', ''];
      const { dir } = lab;
      const pool = `[pool]\npath = "${dir}/pool-${backend}"\nimage_size = "1G"\n`;
      const rest = `[logout]\ngrace = 0\n[directories]\nstate = "${dir}/state-${backend}"\n`;
      const config = `${dir}/${backend}.toml`;
      fs.writeFileSync(config, `${rest}${pool}`);
      const r = lab.runMachine(
        `mkdir -p ${dir}/home/alice ${dir}/home/bob; chown ${ALICE} ${dir}/home/alice; chown ${BOB} ${dir}/home/bob
      mount --bind ${dir}/home /home
      sed -i -E 's|^(alice\\|bob)(:x:.*)::/:|\\1\\2::/home/\\1:|' /etc/passwd
      mayfly() { node ${MAYFLY} "$@" --config ${config}; }
      hook() { env -i PATH=/usr/bin:/bin USER=$3 DISPLAY=$2 ${HOOKS}/lightdm/session-$1 --config ${config} --quiet; }
      enter() { as ${ALICE} schroot -c $(cat /run/mayfly/users/${ALICE}/session) -d / -- "$@"; }
      tree() { echo $1; for child in $(cat /proc/$1/task/*/children 2>/dev/null); do tree $child; done; }
      picture() {
        # not those of other tests: who removes a directory removes what is mounted on it in every namespace
        findmnt -l -n -o TARGET | grep -v -E '^/(var/(lib|tmp)/mayfly-|tmp/mmdebstrap)' | sort
        findmnt -l -n -o TARGET | grep -F ${dir}/ | sort
        lsns -n -t mnt | wc -l
        ps -u ${ALICE} -o stat=,comm= | grep -v ^Z
        ls -A /etc/schroot/chroot.d /run/mayfly/users /run/mayfly/sessions
        for volume in $(ls -A ${dir}/pool-${backend}/sessions); do
          case $volume in .spare-*) continue ;; esac
          # one that is deleted holds nothing but its number on btrfs until its space is free
          [ -z "$(ls -A ${dir}/pool-${backend}/sessions/$volume 2>/dev/null | grep -x '[0-9]*')" ] && echo $volume
        done
      }
      mayfly init --backend ${backend} --from ${dir}/tree --quiet
      hook setup :1 bob; B=$(cat /run/mayfly/users/${BOB}/session)
      as ${BOB} schroot -c $B -d / -- sleep infinity &
      n=0; until pgrep -u ${BOB} -x sleep >/dev/null || [ $n -gt 500 ]; do n=$((n + 1)); sleep 0.02; done
      ${campaign(before, command, moments(5 * KILLS, random))}
      hook cleanup :1 bob; mayfly destroy --yes
      findmnt -l -n -o TARGET | grep -c -e ^/run/mayfly/roots/u -e ${dir}/pool`,
        100 + 20 * KILLS,
      );
      const said = r.out.trim().split('\n');
      console.log(said[0]);
      expect(said, r.err).toEqual([
        expect.stringMatching(`^killed ${KILLS} times`),
        'removed the pool and all generations',
        '0',
      ]);
    },
  );
});
