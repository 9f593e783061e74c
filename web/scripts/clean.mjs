// Empties dist but keeps .gitkeep: without any file in it, `go build` fails to embed the folder.
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

const root = new URL('../dist/', import.meta.url).pathname
for (const name of readdirSync(root)) {
  if (name !== '.gitkeep') rmSync(join(root, name), { recursive: true })
}
