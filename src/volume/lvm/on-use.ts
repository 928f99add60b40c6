/**
 * The LVM backends, loaded with their first call. They are a seventh of the code of a hook, and every hook on a machine
 * with another backend would load it: 2 % of its start (medians of 80 interleaved dry runs).
 */
import type { Host } from '../../linux/host.ts';
import type { BackendKind } from '../backend.ts';
import type { LvmBackend } from './lvm.ts';

type Method = Exclude<
  keyof LvmBackend,
  'kind' | 'path' | 'spare' | 'discard' | 'readMark' | 'writeMark' | 'isThere'
>;

/** Has every method of the backend that is asynchronous; a method that is missing here does not compile. */
const METHODS: Readonly<Record<Method, true>> = {
  ...{ check: true, prepare: true, open: true, dissolve: true, usage: true, snapshotUsage: true },
  ...{
    create: true,
    fork: true,
    forkCost: true,
    rename: true,
    mount: true,
    attachTree: true,
    detachTree: true,
  },
  ...{
    identity: true,
    busyReason: true,
    remove: true,
    list: true,
    sweep: true,
    isOwnKind: true,
    seals: true,
    writeSeal: true,
  },
};

/** Like `lvmBackend`, which it loads when a method is called. */
export function lvmOnUse(kind: BackendKind & ('lvm-thin' | 'lvm'), host: Host): LvmBackend {
  let loaded: Promise<LvmBackend> | undefined;
  const backend = (): Promise<LvmBackend> => {
    loaded ??= import('./lvm.ts').then(({ lvmBackend }) => lvmBackend(kind, host));
    return loaded;
  };
  const call =
    (name: Method) =>
    async (...args: unknown[]): Promise<unknown> =>
      Reflect.apply((await backend())[name], await backend(), args);
  const methods = Object.keys(METHODS).map(name => [name, call(name as Method)]);
  return { kind, path: () => undefined, ...Object.fromEntries(methods) } as LvmBackend;
}
