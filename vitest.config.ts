import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            'test/*.test.ts',
            'test/{cli,config,linux,service,session,state,update,volume}/**/*.test.ts',
            'test/desktop/unit/*.test.ts',
            'test/fuzz/*.test.ts',
          ],
          testTimeout: 300_000,
        },
      },
      {
        test: {
          name: 'system',
          include: ['test/system/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
          fileParallelism: false,
          sequence: { concurrent: false },
        },
      },
      {
        test: {
          name: 'desktop',
          include: ['test/desktop/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
          fileParallelism: false,
          sequence: { concurrent: false },
        },
      },
      {
        test: {
          name: 'lvm',
          include: ['test/lvm/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
          maxWorkers: 2, // machines of one processor each
          sequence: { concurrent: false },
        },
      },
      // Run by `npm run bench`.
      {
        test: {
          name: 'bench',
          include: ['test/bench/*.test.ts'],
          testTimeout: 3_600_000,
          hookTimeout: 3_600_000,
          fileParallelism: false,
          sequence: { concurrent: false },
        },
      },
      // Run by scripts/campaign.
      {
        test: {
          name: 'lvm-speed',
          include: ['test/lvm/speed.bench.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
        },
      },
      // Run by scripts/test-desktops.
      {
        test: {
          name: 'desktops',
          include: ['test/desktops/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
          fileParallelism: false,
          sequence: { concurrent: false },
        },
      },
      // Run by the project "lvm", in user-mode Linux.
      {
        test: {
          name: 'inside',
          include: ['test/lvm/inside/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 1_800_000,
          fileParallelism: false,
          sequence: { concurrent: false },
        },
      },
      {
        test: {
          name: 'vm',
          include: ['test/vm/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 900_000,
          fileParallelism: false,
          sequence: { concurrent: false },
        },
      },
    ],
  },
});
