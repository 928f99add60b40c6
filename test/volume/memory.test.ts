import { World } from '../world.ts';
import { contract } from './contract.ts';

contract('memory', async () => {
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
    async close() {},
  };
});
