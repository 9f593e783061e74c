// Writes .br and .gz in place of every text file of dist, so that the server never compresses anything itself and the
// program carries no third copy. Who takes neither is served the .gz unpacked.
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const root = new URL('../dist/', import.meta.url).pathname
const texts = /\.(js|css|html|svg|json|txt|webmanifest)$/
const tooSmall = 600 // bytes; below this the headers cost more than compression saves

function* files(dir) {
  for (const name of readdirSync(dir)) {
    const path = join(dir, name)
    if (statSync(path).isDirectory()) yield* files(path)
    else yield path
  }
}

for (const path of files(root)) {
  if (!texts.test(path)) continue
  const body = readFileSync(path)
  if (body.length < tooSmall) continue
  writeFileSync(`${path}.gz`, gzipSync(body, { level: 9 }))
  writeFileSync(
    `${path}.br`,
    brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: body.length } }),
  )
  rmSync(path)
}
