import { defineConfig } from 'vitest/config'

// End-to-end tests drive the real binary and a real browser, so they run one after
// the other and may take their time.
export default defineConfig({
  test: {
    environment: 'node',
    include: ['e2e/**/*.e2e.ts'],
    testTimeout: 180_000,
    hookTimeout: 180_000,
    fileParallelism: false,
    pool: 'forks',
  },
})
