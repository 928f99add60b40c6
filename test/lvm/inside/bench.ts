/** A pool on LVM for the contract suite, in the volume group of the machine. */
import * as fs from 'node:fs';
import { realHost } from '../../../src/linux/real-host.ts';
import type { BackendKind, FileSystem, Volume, VolumeBackend } from '../../../src/volume/backend.ts';
import { lvNameOf, parsePoolPath } from '../../../src/volume/lvm/names.ts';
import { openBackend } from '../../../src/volume/open.ts';
import { LONG } from '../../campaign.ts';
import { must, sh } from '../../system/lab.ts';
import { sitDown, standUp } from '../../system/sitters.ts';
import type { Bench } from '../../volume/contract.ts';
import { dyingHost } from '../../volume/dying.ts';
import { whenFree } from './devices.ts';

export const GROUP = process.env.MAYFLY_TEST_VG ?? '';

/** A volume that takes all that is free in the group; a thin pool has its room already. */
const FILLING = 'filling';

/** Where volumes are mounted, and whether somebody sits there. */
const entered = new Map<string, boolean>();

/** Leaves every volume that a case has entered and not left. */
export async function leaveAll(): Promise<void> {
  for (const [root, sitting] of [...entered].reverse()) {
    if (sitting) await standUp(root);
    sh('umount', ['-l', root]);
    fs.rmdirSync(root);
    entered.delete(root);
  }
}

export function lvmBench(kind: BackendKind & `lvm${string}`, fileSystem: FileSystem): () => Promise<Bench> {
  return async () => {
    if (GROUP === '') throw new Error('this is run by the project "lvm", in user-mode Linux');
    const host = realHost();
    const backend = openBackend(kind, host);
    const dir = fs.mkdtempSync('/var/lib/mayfly-test-');
    const volumes = (): string[] =>
      must('lvs', ['--noheadings', '-a', '-o', 'lv_name', GROUP]).trim().split(/\s+/).filter(Boolean);
    const before = volumes();
    const pool = `/dev/${GROUP}/${kind}${fileSystem}`;
    const size = fileSystem === 'xfs' ? '304M' : '64M'; // the least mkfs.xfs makes
    await backend.prepare(pool, { pool: '1G', volume: size });
    const withFs = (v: Volume): Volume => ({
      ...v,
      fs: fileSystem,
      ...(v.origin ? { origin: withFs(v.origin) } : {}),
    });
    const sized = (b: VolumeBackend): VolumeBackend => ({
      ...b,
      create: to => b.create(withFs(to), { pool: '1G', volume: size }),
      fork: (from, to, o) => b.fork(withFs(from), withFs(to), { ...o, cow: '16M' }),
    });
    const rootOf = (v: Volume): string => `${dir}/${v.role}-${v.name}`;
    return {
      backend: sized(backend),
      pool,
      crowd: kind === 'lvm' ? 6 : LONG ? 20 : 10,
      async enter(v) {
        const root = rootOf(v);
        fs.mkdirSync(root, { recursive: true });
        const m =
          v.role === 'session'
            ? await backend.mount(withFs(v), root)
            : await backend.attachTree?.(withFs(v), root);
        if (!m) throw new Error('no mount');
        must('mount', ['-t', m.type, '-o', m.options, m.source, m.target]);
        entered.set(root, false);
        if (v.role === 'session') {
          entered.set(root, true);
          sitDown(root);
        }
        return root;
      },
      async leave(v) {
        const root = rootOf(v);
        if (v.role === 'session') await standUp(root);
        entered.set(root, false);
        await whenFree('umount', [root]);
        fs.rmdirSync(root);
        entered.delete(root);
        if (v.role !== 'session') await backend.detachTree?.(v);
      },
      write: (path, text) => fs.writeFileSync(path, text),
      read: path => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined),
      async foreign(v) {
        must('lvcreate', ['-q', '-L', '4M', '-n', lvNameOf(v, () => ''), parsePoolPath(pool).group]);
      },
      async unplant(v) {
        must('lvremove', ['-q', '-y', `${GROUP}/${lvNameOf(v, () => '')}`]);
      },
      ...(kind === 'lvm' ? {} : { dying: at => sized(openBackend(kind, dyingHost(host, at))) }),
      fill() {
        must('lvcreate', ['-q', '-l', '100%FREE', '-n', FILLING, GROUP]);
      },
      empty() {
        must('lvremove', ['-q', '-y', `${GROUP}/${FILLING}`]);
      },
      async close() {
        await backend.dissolve(pool);
        fs.rmSync(dir, { recursive: true });
        const left = volumes().filter(name => !before.includes(name));
        if (left.length > 0) throw new Error(`volumes are left: ${left.join(', ')}`);
      },
    };
  };
}
