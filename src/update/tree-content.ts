/** How much is in a tree, by which a copy of it that is not complete is told from the whole. */
import type { Host } from '../linux/host.ts';
import { parseFileSizes, type TreeContent } from '../state/tree-content.ts';

/** Looks at every name below `tree`, on its file system alone, without following symbolic links. */
export async function countTree(host: Host, tree: string): Promise<TreeContent> {
  const what = ['(', '-type', 'f', '-printf', '%s\\n', ')', '-o', '-printf', '\\n'];
  const args = [tree, '-xdev', ...what];
  return parseFileSizes((await host.run({ file: 'find', args, effect: 'read' })).stdout);
}
