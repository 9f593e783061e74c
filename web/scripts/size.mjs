// Prints what a visitor downloads and fails when a budget is broken.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'

const dist = new URL('../dist/', import.meta.url).pathname
const kB = (bytes) => Math.round(bytes / 100) / 10
const packed = (path) => existsSync(`${path}.gz`)
const text = (path) => (packed(path) ? gunzipSync(readFileSync(`${path}.gz`)) : readFileSync(path)).toString()
const gzip = (path) => statSync(packed(path) ? `${path}.gz` : path).size

const html = text(join(dist, 'index.html'))
// The viewer of the API's documentation is a page of its own, with a budget of its own.
const viewer = /^(swagger-ui|docs)-/
const entry = new Set([...html.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g)].map((m) => m[1]))
const names = readdirSync(join(dist, 'assets')).map((name) => name.replace(/\.(gz|br)$/, ''))
const rows = [...new Set(names)]
  .filter((name) => /\.(js|css)$/.test(name))
  .map((name) => ({ name, entry: entry.has(`assets/${name}`), size: gzip(join(dist, 'assets', name)) }))
  .sort((a, b) => Number(b.entry) - Number(a.entry) || b.size - a.size)

let entryJS = 0
let entryCSS = 0
const broken = []
for (const row of rows) {
  if (row.size > 400)
    console.log(`${row.entry ? 'entry' : 'lazy '}  ${String(kB(row.size)).padStart(7)} kB gzip  ${row.name}`)
  if (row.entry && row.name.endsWith('.js')) entryJS += row.size
  if (row.entry && row.name.endsWith('.css')) entryCSS += row.size
  const most = viewer.test(row.name) ? 480 : 150
  if (!row.entry && row.size > most * 1000) broken.push(`${row.name} is above ${most} kB`)
}
console.log(`entry JS   ${kB(entryJS)} kB gzip (budget 200)`)
console.log(`entry CSS  ${kB(entryCSS)} kB gzip (budget 40)`)
if (entryJS > 200_000) broken.push('entry JS is above 200 kB')
if (entryCSS > 40_000) broken.push('entry CSS is above 40 kB')

const widget = join(dist, 'widget.js')
if (existsSync(widget) || packed(widget)) {
  const size = gzip(widget)
  console.log(`widget     ${kB(size)} kB gzip (budget 15)`)
  if (size > 15_000) broken.push('widget.js is above 15 kB')
}
if (broken.length > 0) {
  console.error(broken.join('\n'))
  process.exit(1)
}
