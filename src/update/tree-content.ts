/** Looks at a whole tree: a copy that is not complete is told from the whole by what is in it. */
import type { Host } from '../linux/host.ts';
import { CONTENT_FORMAT, parseTreeContent, type TreeContent } from '../state/tree-content.ts';

/** Looks at every name below `tree`, on its file system alone, without following symbolic links. Throws `command`. */
export async function countTree(host: Host, tree: string): Promise<TreeContent> {
  const { stdout } = await host.run({
    file: 'find',
    args: [tree, '-xdev', ...CONTENT_FORMAT],
    effect: 'read',
  });
  return parseTreeContent(stdout);
}
