import { defineConfig } from 'vitest/config'

// The chat widget is one plain script with a fixed name, because it stands in other
// people's pages. It is built after the app and into the same folder.
export default defineConfig({
  publicDir: false,
  define: { 'process.env.NODE_ENV': JSON.stringify('production') },
  build: {
    outDir: 'dist',
    emptyOutDir: false,
    target: 'es2022',
    lib: {
      entry: 'widget/main.tsx',
      formats: ['iife'],
      name: 'TandemChat',
      fileName: () => 'widget.js',
    },
  },
  test: {
    environment: 'happy-dom',
    include: ['widget/**/*.test.{ts,tsx}'],
    testTimeout: 20_000,
  },
})
