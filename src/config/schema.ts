/** The schema of the configuration. */

import * as z from 'zod';
import { ANY_PATH, LVM_NAME, PACKAGE_NAME, RELEASE, SIZE } from '../names.ts';
import { SYSTEM_RUN } from './config.ts';
import { DEFAULT_BIND, DEFAULT_COPY, DEFAULT_RBIND } from './shared-paths.ts';

const size = z.string().regex(SIZE, 'expected a size such as "512M" or "10G"');

/** A size of a tmpfs, which the kernel parses: it only accepts integers, and takes zero as "without limit". */
const memory = z
  .string()
  .regex(
    /^[1-9]\d*[KMGT]?$|^[1-9]\d{0,2}%$/,
    'expected a size without a fraction, such as "1536M", or a percentage of the memory, such as "50%"; not zero',
  );

const sizeOrFree = z
  .string()
  .regex(
    /^(\d+(\.\d+)?[KMGT]?|[1-9]\d?%|100%)$/,
    'expected a size such as "20G" or a percentage such as "20%"',
  );

const NAMED = 'expected a name of letters, digits and "_ . + -"';

const lvmName = z.string().regex(LVM_NAME, NAMED);

/** Longest name in a directory (NAME_MAX). */
const MAX_NAME = 255;

/** Longest path of an option: the path of a mount is the run directory, the session's ID and this (PATH_MAX is 4096). */
const MAX_PATH = 1024;

/** Longest run directory: it becomes a part of the name of each session's control group, which has a random number too. */
const MAX_RUN = MAX_NAME - 'mayfly.u4294967295-00000000'.length;

const tooLong = (most: number): string => `too long: at most ${most} characters are possible`;

/** Restricted to characters that need no quoting in mount(8) options, fstab(5) and schroot's files. */
const path = z
  .string()
  .regex(
    /^(\/(?!\.{0,2}(\/|$))[A-Za-z0-9_.@+][A-Za-z0-9_.@+-]*)+$/,
    'expected an absolute path of letters, digits and "_ . @ + -", without "." and ".." as a name',
  )
  .max(MAX_PATH, tooLong(MAX_PATH))
  .refine(
    text => text.split('/').every(name => name.length <= MAX_NAME),
    `a name in it is ${tooLong(MAX_NAME)}`,
  );

/**
 * A name, also "domain admins" or "DOM\\domain admins" of a directory. Without control characters, which no name has
 * and which would reach terminals and other programs' files.
 */
const NAME = '[^@\\s:,/\\p{Cc}-](?:[^\\s:,/\\p{Cc}]| (?=\\S))*';

const member = z
  .string()
  .regex(new RegExp(`^(\\*|@?${NAME})$`, 'u'), 'expected a user name, "@group" or "*"');

/** A path that sessions show. In every system, the older names are symlinks, on which nothing can be mounted. */
const shownPath = path.transform(text =>
  text.replace(/^\/var\/run(?=\/)/, '/run').replace(/^\/var\/lock(?=\/|$)/, '/run/lock'),
);

/** A member of a list that does not allow "*". */
const named = member.regex(/^[^*]/, 'expected a user name or "@group"; "*" is not allowed in this list');

const seconds = z.number().min(0).max(3600);

/** One argument of a command, which is not passed to a shell. */
const argument = z
  .string()
  .regex(/^[^\0\n]+$/, 'expected an argument of a command, not empty and without newlines');

const packageName = z.string().regex(PACKAGE_NAME, 'expected the name of a Debian package');

/** All options with their defaults. `config/mayfly.toml` documents the same; a test compares them. */
export const schema = z.strictObject({
  include: z.array(member).default(['*']),
  exclude: z.array(member).default(['root']),
  min_uid: z.int().min(0).max(4294967294).default(1000),
  on_failure: z.enum(['refuse', 'host']).default('refuse'),
  root_users: z.array(named).default([]),
  sudo: z.array(member).default([]),
  ephemeral_home: z.array(member).default([]),
  pool: z
    .strictObject({
      backend: z.enum(['overlay', 'btrfs', 'lvm-thin', 'lvm']).default('overlay'),
      path: path.default('/var/lib/mayfly/pool'),
      image_size: size.default('16G'),
    })
    .prefault({}),
  overlay: z
    .strictObject({ upper: z.enum(['disk', 'tmpfs']).default('disk'), size: memory.default('50%') })
    .prefault({}),
  lvm: z
    .strictObject({
      group: z.union([lvmName, z.literal('')], { error: NAMED }).default(''),
      name: lvmName.default('mayfly'),
      fs: z
        .enum(['ext4', 'xfs'], {
          error:
            'expected "ext4" or "xfs"; btrfs would confuse a snapshot of its device with the device itself',
        })
        .default('ext4'),
      pool_size: sizeOrFree.default('90%'),
      volume_size: size.default('16G'),
      cow_size: sizeOrFree.default('20%'),
      max_used_percent: z.number().min(1).max(100).default(90),
      warn_percent: z.number().min(1).max(100).default(75),
    })
    .prefault({}),
  home: z.strictObject({ size: memory.default('25%') }).prefault({}),
  admission: z
    .strictObject({
      max_used_percent: z.number().min(1).max(100).default(95),
      min_free: size.default('512M'),
    })
    .prefault({}),
  hook: z.strictObject({ timeout: z.number().min(1).max(3600).default(30) }).prefault({}),
  logout: z
    .strictObject({
      grace: seconds.default(10),
      kill_timeout: seconds.default(10),
      on_stuck: z.enum(['keep', 'reboot']).default('keep'),
      max_stuck: z.int().min(1).max(1000).default(3),
    })
    .prefault({}),
  mounts: z
    .strictObject({
      run_size: memory.default('20%'),
      rbind: z.array(shownPath).default(DEFAULT_RBIND),
      bind: z.array(shownPath).default(DEFAULT_BIND),
    })
    .prefault({}),
  identity: z
    .strictObject({
      copy: z.array(path).default(DEFAULT_COPY),
    })
    .prefault({}),
  init: z
    .strictObject({
      suite: z
        .string()
        .refine(
          s => s === '' || RELEASE.test(s),
          'expected the name of a Debian release, or "" for the release of this machine',
        )
        .default(''),
      packages: z.array(packageName).default([]),
      keep: z.array(z.string().regex(ANY_PATH, 'expected an absolute path without ".."')).default([]),
    })
    .prefault({}),
  update: z
    .strictObject({
      command: z.array(argument).default([]),
      upgrade: z.enum(['full', 'safe']).default('full'),
      packages: z.array(packageName).default([]),
      protect: z.array(packageName).default(['apt', 'bash', 'dpkg', 'libpam-modules', 'login', 'passwd']),
      conffiles: z.enum(['keep', 'replace']).default('keep'),
      proxy: z
        .string()
        .regex(
          /^(https?:\/\/[^\s"';\p{Cc}]+)?$/u,
          'expected the URL of a proxy, such as "http://proxy:3128", or ""',
        )
        .default(''),
      sources: z
        .array(
          z
            .string()
            .regex(
              /^deb(-src)? (\t|\P{Cc})+$/u,
              'expected a line of sources.list(5), such as "deb URI SUITE main"',
            ),
        )
        .default([]),
      max_removals: z.int().min(0).max(100_000).default(20),
      timeout: z.number().min(1).max(86400).default(7200),
      keep: z.int().min(1).max(1000).default(3),
      max_used_percent: z.number().min(1).max(100).default(85),
      on_battery: z.enum(['skip', 'run']).default('skip'),
      on_metered: z.enum(['skip', 'run']).default('skip'),
    })
    .prefault({}),
  greeter: z.strictObject({ host_sessions: z.enum(['staff', 'hide']).default('staff') }).prefault({}),
  check: z
    .strictObject({
      user: z
        .string()
        .regex(new RegExp(`^${NAME}$`, 'u'), 'expected a user name')
        .default('nobody'),
      command: z.array(argument).min(1, 'expected a command').default(['/bin/true']),
      timeout: z.number().min(1).max(86400).default(300),
      demote_after: z.int().min(0).max(1000).default(3),
    })
    .prefault({}),
  host: z
    .strictObject({
      update: z.enum(['off', 'unattended-upgrades', 'command']).default('off'),
      command: z.array(argument).default([]),
      reboot: z.enum(['never', 'idle']).default('never'),
    })
    .prefault({}),
  directories: z
    .strictObject({
      state: path.default('/var/lib/mayfly'),
      run: path.max(MAX_RUN, tooLong(MAX_RUN)).default(SYSTEM_RUN),
      schroot: path.default('/etc/schroot/chroot.d'),
    })
    .prefault({}),
});
