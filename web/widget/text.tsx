/** @jsxImportSource preact */
import type { ComponentChildren } from 'preact'

const address = /https?:\/\/[^\s<>"']+/gi

/** linkOf returns a safe http or https address, or undefined for anything else. */
export function linkOf(text: string | undefined): string | undefined {
  if (!text) return undefined
  try {
    const url = new URL(text)
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.href : undefined
  } catch {
    return undefined
  }
}

/** trim leaves punctuation that ends the sentence, or closes a bracket opened before the address, outside of it. */
function trim(url: string): string {
  for (;;) {
    const last = url.at(-1) ?? ''
    const closing = last === ')' && url.split(')').length > url.split('(').length
    if (!closing && !'.,;:!?*_~]}'.includes(last)) return url
    url = url.slice(0, -1)
  }
}

/** Text shows plain text. Addresses become links; nothing in it is ever markup. */
export function Text({ text }: { text: string }) {
  const parts: ComponentChildren[] = []
  let done = 0
  for (const found of text.matchAll(address)) {
    const shown = trim(found[0])
    const href = linkOf(shown)
    if (!href) continue
    parts.push(text.slice(done, found.index))
    parts.push(
      <a href={href} target="_blank" rel="noopener noreferrer nofollow">
        {shown}
      </a>,
    )
    done = found.index + shown.length
  }
  parts.push(text.slice(done))
  return <>{parts}</>
}
