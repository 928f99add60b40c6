/**
 * What a person leaves to hold a session by its mount namespace, with the real schroot and PAM module, on each backend: a
 * logout ends it, and the volume is free.
 */
import * as fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BACKENDS, MAYFLY } from './lab.ts';
import { makeMiniTree } from './mini.ts';
import { ALICE, BOB, makeNamespaceLab, type NamespaceLab } from './namespace-lab.ts';

const HOOKS = `${process.cwd()}/hooks`;
/** Of LVM. */
const GROUP = process.env.MAYFLY_TEST_VG;

let lab: NamespaceLab;
beforeAll(() => {
  lab = makeNamespaceLab();
});
afterAll(() => lab.close());

/** Says in a file of her home that it is ready, and stays. */
const STAY = 'open(F, ">/home/alice/ready"); print F "x"; close F; sleep 1000';
const RAW = `sub sys { my ($n, @a) = @_; my $r = syscall($n, @a); $r >= 0 or die "$n: $!"; return $r }`;
/** Takes the descriptor of a copy of the tree from process T, with the rights of the same user. */
const TAKE = `$p = sys(434, $ENV{T} + 0, 0); ($n) = grep { (readlink("/proc/$ENV{T}/fd/$_") // "") eq "/" } 3..9; $f = sys(438, $p, $n, 0);`;
const COPY = `inside unshare -Urm perl -e '${RAW} $r = "/"; sys(428, -100, $r, 0x8001); ${STAY}'; ready; export T=$(pgrep -n -x perl)`;

/** By a person, each in the background; \`inside\` is in the session, \`outside\` beside it. */
const HOLDERS: [string, string][] = [
  [
    'a descriptor of the namespace, of a process outside',
    `target; outside perl -e 'open(N, "<", "/proc/$ENV{P}/ns/mnt") or die; ${STAY}'; ready`,
  ],
  [
    'a process of root that has entered the namespace',
    'target; setsid nsenter --mount=/proc/$P/ns/mnt sleep 1000 & until [ "$(readlink /proc/$!/ns/mnt)" = "$(readlink /proc/$P/ns/mnt)" ]; do sleep 0.02; done',
  ],
  ['a nested namespace', `inside unshare -Urm --propagation private perl -e '${STAY}'; ready`],
  [
    'a nested namespace with the tree below another root, and a program elsewhere',
    'cp $D/hold /home/alice; inside /home/alice/hold; ready',
  ],
  ['a descriptor of a copy of the tree', COPY],
  [
    'a descriptor of a copy of the tree, of a process outside',
    `${COPY}; outside perl -e '${RAW} ${TAKE} ${STAY}'; ready`,
  ],
  [
    'a copy of the tree in a namespace outside',
    `${COPY}; outside perl -e '${RAW} ${TAKE} sys(272, 0x10020000); ($e, $t) = ("", "/mnt"); sys(429, $f, $e, -100, $t, 4); open(C, "<&=", $f); close C; ${STAY}'; ready`,
  ],
  [
    'thousands of mounts in nested namespaces',
    `inside unshare -Urm sh -c 'mkdir /home/alice/b; mount -t tmpfs x /home/alice/b
      for i in 1 2 3 4 5 6 7 8 9 10 11 12; do mkdir /home/alice/b/$i; mount --rbind /home/alice/b /home/alice/b/$i; done
      for i in 1 2 3; do unshare -Urm sleep 1000 & done; exec perl -e "open(F, q(>/home/alice/ready)); print F q(x); close F; sleep 1000"'; ready`,
  ],
  [
    'a file server that never answers in a nested namespace, with a process that waits for it',
    `mount --bind /run/mayfly/fuse /run/mayfly/roots/$S/dev/fuse
      inside unshare -Urm perl -e '${RAW} sysopen($d, "/dev/fuse", 2) or die "fuse: $!"; ($s, $t, $o, $p) = ("s", "fuse", "fd=" . fileno($d) . ",rootmode=40000,user_id=0,group_id=0,allow_other", "/tmp"); sys(165, $s, $p, $t, 0, $o); if (fork == 0) { chdir "/tmp"; open(X, "<", "/tmp/x"); exit } ${STAY}'; ready`,
  ],
];

describe.runIf(process.arch === 'x64').each(BACKENDS)('a logout on %s', backend => {
  it('ends whatever a person left to hold the session, and disturbs nobody else', () => {
    const { dir } = lab;
    const programs = ['perl', 'unshare', 'mount', 'mkdir', 'readlink'];
    if (!fs.existsSync(`${dir}/tree`)) makeMiniTree(`${dir}/tree`, programs);
    for (const [name, uid] of [
      ['alice', ALICE],
      ['bob', BOB],
    ] as const) {
      fs.mkdirSync(`${dir}/home/${name}`, { recursive: true });
      fs.chownSync(`${dir}/home/${name}`, uid, uid);
    }
    const isLvm = backend.startsWith('lvm');
    const lvm = `[lvm]\ngroup = "${GROUP}"\nname = "holders-${backend}"\npool_size = "1G"\nvolume_size = "500M"\n`;
    const pool = isLvm ? lvm : `[pool]\npath = "${dir}/pool-${backend}"\nimage_size = "1G"\n`;
    const volumes = isLvm ? `lvs --noheadings -o lv_name ${GROUP}` : `ls ${dir}/pool-${backend}/sessions`;
    const rest = `[logout]\ngrace = 0\n[directories]\nstate = "${dir}/state-${backend}"\n`;
    fs.writeFileSync(`${dir}/${backend}.toml`, `${rest}${pool}`);
    const attacks = HOLDERS.map(
      ([what, script]) => `hook setup :0 alice; S=$(cat /run/mayfly/users/${ALICE}/session)
        rm -rf --one-file-system /home/alice/*
        ${script}
        hook cleanup :0 alice || echo "$?"; mayfly recover >/dev/null
        echo "${what}: $(mayfly sessions --json | grep -c '"user": "alice"') $(pgrep -u ${ALICE} | wc -l) $(lsns -n -t mnt | wc -l) $(${volumes} | grep -c $S)"
        pkill -KILL -u ${ALICE}; mayfly recover >/dev/null`,
    );
    const r = lab.runMachine(`D=${dir}
        [ -e /dev/fuse ] || modprobe -q fuse
        mount --bind ${dir}/home /home
        mount -t tmpfs -o mode=0755 none /run/mayfly; mknod -m 666 /run/mayfly/fuse c 10 229
        sed -i -E 's|^(alice\\|bob)(:x:.*)::/:|\\1\\2::/home/\\1:|' /etc/passwd
        mayfly() { node ${MAYFLY} "$@" --config ${dir}/${backend}.toml; }
        hook() { env -i PATH=/usr/bin:/bin USER=$3 DISPLAY=$2 ${HOOKS}/lightdm/session-$1 --config ${dir}/${backend}.toml --quiet; }
        outside() { as ${ALICE} "$@" & }
        inside() { outside schroot -c $S -d / -- "$@" 2>/run/mayfly/said; }
        ready() { n=0; until [ -s /home/alice/ready ]; do n=$((n + 1)); if [ $n -gt 500 ]; then echo "not ready"; cat /run/mayfly/said; return; fi; sleep 0.02; done; rm /home/alice/ready; }
        target() { inside perl -e '${STAY}'; ready; export P=$(pgrep -n -x perl); }
        mayfly init --backend ${backend} --from ${dir}/tree --quiet
        hook setup :1 bob; B=$(cat /run/mayfly/users/${BOB}/session)
        as ${BOB} schroot -c $B -d / -- sleep 1000 &
        ${attacks.join('\n')}
        as ${BOB} schroot -c $B -d / -- true && echo "bob is not disturbed"; pgrep -c -u ${BOB} -x sleep
        hook cleanup :1 bob; mayfly destroy --yes; findmnt -l -n -o TARGET | grep -c -e roots/ -e ${dir}/pool`);
    const kept = 2; // namespaces: the machine's, and that of what bob runs
    expect(r.out.trim().split('\n')).toEqual([
      ...HOLDERS.map(([what]) => `${what}: 0 0 ${kept} 0`),
      'bob is not disturbed',
      '1',
      'removed the pool and all generations',
      '0',
    ]);
  });
});
