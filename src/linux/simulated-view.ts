/** What commands may change in the picture that a dry run has of the machine. */

/** The machine as a dry run sees it. */
export interface SimulatedView {
  /** Reading below `path` reads below `instead`, which looks like a file system of its own. */
  mount(path: string, instead: string): void;
  unmount(path: string): void;
  write(path: string, text: string): void;
  /** The process ends. */
  end(pid: number): void;
}
