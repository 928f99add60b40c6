/**
 * The steps of a login, in order. Logout, cleanup of a failed login and recovery after a crash run the same array
 * backwards. `down` means "make absent": it never assumes that its `up` ran, and it succeeds if there is nothing.
 */
import { access } from './steps/access.ts';
import { home } from './steps/home.ts';
import { mounts } from './steps/mounts.ts';
import { processes } from './steps/processes.ts';
import { record } from './steps/record.ts';
import type { Step } from './steps/step.ts';
import { volume } from './steps/volume.ts';

export const steps: readonly Step[] = [record, volume, mounts, home, processes, access];
