/** The contract over the real backends. */
import * as fs from 'node:fs';
import { realHost } from '../../src/linux/real-host.ts';
import type { BackendKind } from '../../src/volume/backend.ts';
import { volumePath } from '../../src/volume/directory-layout.ts';
import { openBackend } from '../../src/volume/open.ts';
import { contract } from '../volume/contract.ts';
import { must } from './lab.ts';
import { sitDown, standUp } from './sitters.ts';

function bench(kind: BackendKind, upper: 'disk' | 'tmpfs') {
  return async () => {
    const host = realHost();
    const backend = openBackend(kind, host);
    const dir = fs.mkdtempSync('/var/lib/mayfly-test-');
    const pool = `${dir}/pool`;
    const at = `${dir}/at`;
    fs.mkdirSync(pool);
    fs.mkdirSync(at);
    if (kind === 'btrfs') {
      must('truncate', ['-s', '512M', `${dir}/image`]);
      must('mkfs.btrfs', ['-q', `${dir}/image`]);
      must('mount', ['-o', 'loop', `${dir}/image`, pool]);
    }
    await backend.prepare(pool);
    return {
      backend,
      pool,
      upper,
      async enter(v: Parameters<typeof backend.mount>[0]) {
        if (v.role !== 'session') return backend.path(v) ?? '';
        const root = `${at}/${v.name}`;
        fs.mkdirSync(root, { recursive: true });
        const m = await backend.mount(v, root);
        must('mount', [...(m.type === 'none' ? [] : ['-t', m.type]), '-o', m.options, m.source, m.target]);
        // An open file, as a person's program would have: btrfs alone would not notice the mount.
        sitDown(root);
        return root;
      },
      async leave(v: Parameters<typeof backend.mount>[0]) {
        const root = `${at}/${v.name}`;
        if (v.role !== 'session') return;
        await standUp(root);
        must('umount', [root]);
        fs.rmdirSync(root);
      },
      write: (path: string, text: string) => fs.writeFileSync(path, text),
      read: (path: string) => (fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined),
      async foreign(v: Parameters<typeof backend.mount>[0]) {
        if (kind === 'btrfs') fs.mkdirSync(volumePath(v));
        fs.writeFileSync(kind === 'btrfs' ? `${volumePath(v)}/letter` : volumePath(v), 'not a volume');
      },
      async unplant(v: Parameters<typeof backend.mount>[0]) {
        fs.rmSync(volumePath(v), { recursive: true });
      },
      async close() {
        if (kind === 'btrfs') must('umount', [pool]);
        fs.rmSync(dir, { recursive: true });
      },
    };
  };
}

contract('overlay on disk', bench('overlay', 'disk'));
contract('overlay on tmpfs', bench('overlay', 'tmpfs'));
contract('btrfs', bench('btrfs', 'disk'));
