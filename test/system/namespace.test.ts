/**
 * The PAM module with the real schroot, in a mount and process namespace of its own: whom it gives a mount namespace, and
 * whom it does not.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ALICE,
  BOB,
  BOBS,
  enter,
  ID,
  makeNamespaceLab,
  NAMESPACE,
  type NamespaceLab,
  OLD,
  ROOTS,
} from './namespace-lab.ts';

let lab: NamespaceLab;
const run = (script: string): ReturnType<NamespaceLab['run']> => lab.run(script);

beforeAll(() => {
  lab = makeNamespaceLab();
});
afterAll(() => lab.close());

const lines = (script: string): string[] => {
  const r = run(script);
  expect(r.err).toBe('');
  return r.out.trim().split('\n');
};

describe('what enters a session', () => {
  it('has a mount namespace whose root is the tree, with user namespaces, and nothing of the host in it', () => {
    const [host, inside, id, places] = lines(`${NAMESPACE}; ${enter(ALICE, ID, NAMESPACE)}
      ${enter(ALICE, ID, 'unshare -Ur id -u')}
      ${enter(ALICE, ID, "cut -d' ' -f5 /proc/self/mountinfo")} | grep -c -v -E '^/($|usr|etc|proc|dev|tmp|run)'`);
    expect(inside).not.toBe(host);
    expect([id, places]).toEqual(['0', '0']);
  });

  it('shares the mounts of all that is in the session, and none with the host outside of it', () => {
    const seen = lines(`${enter(0, ID, "sh -c 'mkdir /run/x && mount -t tmpfs inner /run/x'")}
      ${enter(ALICE, ID, 'findmnt -n -o TARGET -S inner')}
      findmnt -n -l -o TARGET -S inner
      mount -t tmpfs outer /tmp
      ${enter(ALICE, ID, 'findmnt -n -o TARGET -S outer')}`);
    expect(seen).toEqual(['/run/x', `${ROOTS}/${ID}/run/x`, '/tmp']);
  });

  it('keeps its working directory and its exit status', () => {
    const seen =
      lines(`mkdir /run/mayfly/home; mount --bind /run/mayfly/home /home; mkdir /home/alice; cd /home/alice
      as ${ALICE} schroot -c ${ID} -- pwd
      cd /run/mayfly; as ${ALICE} schroot -c ${ID} -- sh -c 'pwd; exit 7'; echo $?`);
    expect(seen).toEqual(['/home/alice', '/run/mayfly', '7']);
  });

  it('is not taken into a directory that its user may not search', () => {
    const r = run(`mkdir /run/mayfly/secret && cd /run/mayfly/secret && as ${ALICE} schroot -c ${ID} -- pwd`);
    expect(r.out + r.err).not.toMatch(/secret$/m);
  });

  it('is in a chroot where the kernel refuses a namespace, and its root shows that; elsewhere it does not', () => {
    // In a user namespace of its own: the setting is that of the whole machine otherwise.
    const refused = (command: string): string => `unshare --user sh -c '
      until grep -q . /proc/self/uid_map && grep -q . /proc/self/gid_map; do sleep 0.02; done
      exec sh -c "echo 0 >/proc/sys/user/max_mnt_namespaces
        exec setpriv --reuid=${ALICE} --regid=${ALICE} --clear-groups -- schroot -c ${ID} -d / -- ${command}"' 2>/dev/null &
      until [ "$(readlink /proc/$!/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.02; done
      echo 0 0 65536 >/proc/$!/uid_map; echo 0 0 65536 >/proc/$!/gid_map`;
    const look = `n=0; until pgrep -x sleep -u ${ALICE} >/dev/null || [ $n -gt 500 ]; do n=$((n + 1)); sleep 0.02; done
      readlink /proc/$(pgrep -x sleep -u ${ALICE})/root; pkill -x sleep -u ${ALICE}; wait`;
    const seen = lines(`${NAMESPACE}; ${refused(NAMESPACE)}; wait
      ${refused('sleep 1000')}; ${look}
      ${enter(ALICE, ID, 'sleep 1000')} 2>/dev/null & ${look}`);
    expect(seen).toEqual([seen[0], seen[0], `${ROOTS}/${ID}`, '/']);
  });

  it('leaves nothing, and holds the volume until it ends', () => {
    const seen =
      lines(`${enter(ALICE, ID, 'sleep 1000')} 2>/dev/null & until pgrep -x sleep >/dev/null; do jobs %1 >/dev/null || exit; done
      umount -l ${ROOTS}/${ID}; rmdir ${ROOTS}/${ID}; findmnt -n -l -o TARGET | grep -c ${ID}
      pid=$(pgrep -x sleep); grep -c ' / / ' /proc/$pid/mountinfo; kill $pid; wait; lsns -n -t mnt | wc -l`);
    expect(seen).toEqual(['0', '1', '1']);
  });

  it.each([
    ['-c ID', `-c ${ID}`],
    ['-cID', `-c${ID}`],
    ['--chroot=ID', `--chroot=${ID}`],
    ['--chroot ID', `--chroot ${ID}`],
    ['its kind', `-c chroot:${ID}`],
    ['other options before', `-pc ${ID}`],
  ])('may be named by %s', (_what, words) => {
    const [host, inside] = lines(`${NAMESPACE}; as ${ALICE} schroot ${words} -d / -- ${NAMESPACE}`);
    expect(inside).not.toBe(host);
  });
});

describe('the host’s namespace is that of', () => {
  it.each([
    ['another chroot', `as ${ALICE} schroot -c build -d / -- ${NAMESPACE}`],
    [
      'a command that is given a session as an argument',
      `as ${ALICE} schroot -c build -d / -- sh -c '${NAMESPACE}' -c ${ID}`,
    ],
    ['a session of an earlier version, which is a chroot', enter(ALICE, OLD, NAMESPACE)],
    ['a session of somebody else, which schroot allows to enter by chroot', enter(BOB, ID, NAMESPACE)],
    [
      'a program that calls itself so',
      `as ${BOB} bash -c 'exec -a -c${ID} schroot -c build -d / -- ${NAMESPACE}'`,
    ],
  ])('%s', (_what, command) => {
    const [host, inside] = lines(`${NAMESPACE}; ${command}`);
    expect(inside).toBe(host);
  });

  it.each([
    'u61001-',
    'u61001-../..',
    'u-0123abcd',
    `u61001-${'a'.repeat(80)}`,
    '-c',
    'u18446744073709551615-ab',
    '',
  ])('a session named "%s", which does not exist', name => {
    const r = run(`as ${ALICE} schroot -c '${name}' -d / -- ${NAMESPACE}`);
    expect([r.code === 0, r.out]).toEqual([false, '']);
  });

  it('root in a session of somebody else is in its namespace, as its administrator', () => {
    const [host, inside] = lines(`${NAMESPACE}; ${enter(0, BOBS, NAMESPACE)}`);
    expect(inside).not.toBe(host);
  });
});
