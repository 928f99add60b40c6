/** LVM's two backends, loaded when they are first asked: logins on the others do not pay for their code. */
import type { Host } from '../host.ts';
import type { VolumeBackend } from './backend.ts';
import type { lvmBackend } from './lvm.ts';

export function lazyLvm(kind: 'lvm-thin' | 'lvm', host: Host): VolumeBackend {
  let made: ReturnType<typeof lvmBackend> | undefined;
  const real = async () => {
    made ??= (await import('./lvm.ts')).lvmBackend(kind, host);
    return made;
  };
  return {
    kind,
    path: () => undefined,
    check: async () => (await real()).check(),
    prepare: async (...a) => (await real()).prepare(...a),
    open: async (...a) => (await real()).open(...a),
    dissolve: async (...a) => (await real()).dissolve(...a),
    usage: async (...a) => (await real()).usage(...a),
    snapshotUsage: async (...a) => (await real()).snapshotUsage(...a),
    create: async (...a) => (await real()).create(...a),
    fork: async (...a) => (await real()).fork(...a),
    forkCost: async (...a) => (await real()).forkCost(...a),
    rename: async (...a) => (await real()).rename(...a),
    mount: async (...a) => (await real()).mount(...a),
    attachTree: async (...a) => (await real()).attachTree(...a),
    detachTree: async (...a) => (await real()).detachTree(...a),
    identity: async (...a) => (await real()).identity(...a),
    busyReason: async (...a) => (await real()).busyReason(...a),
    remove: async (...a) => (await real()).remove(...a),
    list: async (...a) => (await real()).list(...a),
    sweep: async (...a) => (await real()).sweep(...a),
  };
}
