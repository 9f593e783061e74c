import type { Line } from './wire'

/** A message that the server has not yet confirmed. */
export interface Pending {
  id: string
  text: string
  at: number // ms since 1970, by the visitor's clock; gives the order
  state: 'waiting' | 'sending' | 'sent' | 'refused'
  error?: string // refused: why
}

/** What is known of the thread, kept over page loads. */
export interface Kept {
  token: string
  conversation: string
  lines: Line[] // every line up to the last, or none: a reader resumes after the last one
  read: number // the highest seq that the visitor has looked at
  open: boolean
}

const empty: Kept = { token: '', conversation: '', lines: [], read: 0, open: false }
const mostLines = 300 // beyond this the thread is read again from the server at each page load

/**
 * Store keeps the thread and the unsent messages in localStorage. Each unsent message has a
 * key of its own, so that two tabs never overwrite each other's. Where storage is blocked,
 * everything lives as long as the page.
 */
export class Store {
  readonly #prefix: string
  readonly #disk: Storage | Map<string, string>

  constructor(key: string, disk: Storage | undefined = usable()) {
    this.#prefix = `tandem:${key}`
    this.#disk = disk ?? new Map()
  }

  load(): Kept {
    return { ...empty, ...parse<Partial<Kept>>(this.#get(this.#prefix)) }
  }

  save(kept: Kept): void {
    const lines = kept.lines.length > mostLines ? [] : kept.lines
    if (!this.#set(this.#prefix, JSON.stringify({ ...kept, lines }))) {
      this.#set(this.#prefix, JSON.stringify({ ...kept, lines: [] })) // full: the thread can be read again
    }
  }

  /** The unsent messages, oldest first. */
  queue(): Pending[] {
    const found: Pending[] = []
    for (const k of this.#keys()) {
      if (!k.startsWith(`${this.#prefix}:out:`)) continue
      const p = parse<Pending>(this.#get(k))
      if (p?.id && p.text) found.push({ ...p, state: p.state === 'refused' ? 'refused' : 'waiting' })
    }
    return found.sort((a, b) => a.at - b.at)
  }

  put(p: Pending): void {
    this.#set(`${this.#prefix}:out:${p.id}`, JSON.stringify(p))
  }

  drop(id: string): void {
    const k = `${this.#prefix}:out:${id}`
    try {
      if (this.#disk instanceof Map) this.#disk.delete(k)
      else this.#disk.removeItem(k)
    } catch {
      // The message would be sent once more, and the server knows its id.
    }
  }

  #keys(): string[] {
    try {
      return this.#disk instanceof Map ? [...this.#disk.keys()] : Object.keys(this.#disk)
    } catch {
      return []
    }
  }

  #get(k: string): string | null {
    try {
      return this.#disk instanceof Map ? (this.#disk.get(k) ?? null) : this.#disk.getItem(k)
    } catch {
      return null
    }
  }

  #set(k: string, v: string): boolean {
    try {
      if (this.#disk instanceof Map) this.#disk.set(k, v)
      else this.#disk.setItem(k, v)
      return true
    } catch {
      return false
    }
  }
}

function usable(): Storage | undefined {
  try {
    const s = window.localStorage
    s.setItem('tandem:probe', '1')
    s.removeItem('tandem:probe')
    return s
  } catch {
    return undefined
  }
}

function parse<T>(json: string | null): T | undefined {
  try {
    return json ? (JSON.parse(json) as T) : undefined
  } catch {
    return undefined
  }
}
