import { World } from '../world.ts';
import { type Bench, contract } from './contract.ts';

async function bench(): Promise<Bench> {
  const world = new World();
  const backend = world.backend();
  return {
    backend,
    pool: '/pool',
    async enter(v) {
      const root = `/tmp/${v.role}-${v.name}`;
      world.host.mkdir(root, 0o755);
      const m = await backend.mount(v, root);
      await world.host.run({
        file: 'mount',
        args: ['-t', m.type, '-o', m.options, '--', m.source, m.target],
        effect: 'write',
      });
      return root;
    },
    async leave(v) {
      await world.host.run({ file: 'umount', args: [`/tmp/${v.role}-${v.name}`], effect: 'write' });
    },
    write: (path, text) => world.put(path, text),
    read: path => world.host.read(path),
    async foreign(v) {
      world.foreign.add(`${v.pool}/${v.role}/${v.name}`);
    },
    async unplant(v) {
      world.foreign.delete(`${v.pool}/${v.role}/${v.name}`);
    },
    dying(at) {
      world.newProcess();
      world.dieAt = at;
      return world.backend();
    },
    revive: () => world.newProcess(),
    async close() {},
  };
}

contract('memory', bench, { spares: 'no spares', room: 'its pool has no end' });
