import react from '@vitejs/plugin-react'
import { defineConfig } from 'vitest/config'

const server = process.env.TANDEM_URL ?? 'http://localhost:8080'

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: 'dist',
    emptyOutDir: false, // scripts/clean.mjs does it and keeps .gitkeep
    target: 'es2023',
    // The API's documentation is a page of its own, which shares nothing with the app.
    rolldownOptions: { input: ['index.html', 'docs.html'] },
    // Inlined assets would need data: in the content security policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1800, // the viewer of the documentation
  },
  server: {
    proxy: Object.fromEntries(['/api', '/healthz', '/readyz'].map((p) => [p, { target: server }])),
  },
  test: {
    environment: 'happy-dom',
    include: ['src/**/*.test.{ts,tsx}'],
    setupFiles: ['src/test/setup.ts'],
    testTimeout: 20_000,
    css: false,
  },
})
