import { vi } from 'vitest'
import type { Line, Typing } from './wire'

/** FakeServer answers the web chat endpoints as the real ones do, in memory. */
export class FakeServer {
  lines: Line[] = []
  posts: { id: string; text: string; token: string }[] = []
  typed = 0
  sessions = 0
  /** Answers for the next calls of POST /messages, before it works again; 0 is no answer, 299 a lost one. */
  faults: { status: number; retryAfter?: number }[] = []
  down = false
  token = 'v1.ann'
  streams: FakeEventSource[] = []
  opened: string[] = [] // the address of each stream
  #seq = 0

  install(): void {
    vi.stubGlobal('fetch', (url: string, init: RequestInit) => this.#fetch(url, init))
    const server = this
    vi.stubGlobal(
      'EventSource',
      class extends FakeEventSource {
        constructor(url: string) {
          super(url, server)
        }
      },
    )
  }

  say(from: Line['from'], text: string, clientId?: string): Line {
    const line: Line = {
      seq: ++this.#seq,
      id: `m${this.#seq}`,
      from,
      name: from === 'ai' ? 'Ava' : '',
      text,
      at: '2026-05-04T12:00:00Z',
      client_id: clientId,
    }
    this.lines.push(line)
    for (const s of this.streams) s.line(line)
    return line
  }

  type(t: Typing): void {
    for (const s of this.streams) s.emit('typing', t)
  }

  /** cut breaks every stream. */
  cut(): void {
    for (const s of [...this.streams]) s.fail()
  }

  async #fetch(url: string, init: RequestInit): Promise<Response> {
    const body = JSON.parse(String(init.body))
    const token = new Headers(init.headers).get('Authorization')?.replace('Bearer ', '') ?? ''
    if (this.down) throw new TypeError('Failed to fetch')
    if (url.endsWith('/session')) {
      this.sessions++
      const known = body.token === this.token
      const talked = known && this.lines.length > 0
      return json(200, {
        token: this.token,
        conversation_id: talked ? `c-${this.token}` : undefined,
        title: 'Acme',
        greeting: 'Hello!',
        team: 'Acme team',
        answers: 'ai',
        name: 'Ava',
      })
    }
    if (url.endsWith('/typing')) {
      this.typed++
      return new Response(null, { status: 204 })
    }
    if (token !== this.token) return json(401, { detail: 'The visitor token does not hold.' })
    const fault = this.faults.shift()
    if (fault && fault.status !== 299) {
      if (fault.status === 0) throw new TypeError('Failed to fetch')
      return json(fault.status, { detail: 'No.' }, fault.retryAfter)
    }
    const known = this.lines.find((l) => l.client_id === body.id)
    this.posts.push({ ...body, token })
    const line = known ?? this.say('visitor', body.text, body.id)
    if (fault) throw new TypeError('Failed to fetch') // taken, and the answer was lost
    return json(known ? 200 : 201, { seq: line.seq, id: line.id })
  }
}

function json(status: number, body: unknown, retryAfter?: number): Response {
  const headers: Record<string, string> = { 'Content-Type': 'application/json' }
  if (retryAfter) headers['Retry-After'] = String(retryAfter)
  return new Response(JSON.stringify(body), { status, headers })
}

class FakeEventSource extends EventTarget {
  onopen: (() => void) | null = null
  onerror: (() => void) | null = null
  readonly #server: FakeServer
  readonly url: string

  constructor(url: string, server: FakeServer) {
    super()
    this.url = url
    this.#server = server
    server.opened.push(url)
    setTimeout(() => this.#open(), 1)
  }

  #open(): void {
    const query = new URL(this.url).searchParams
    if (this.#server.down || query.get('token') !== this.#server.token) {
      this.onerror?.()
      return
    }
    this.onopen?.()
    this.#server.streams.push(this)
    const talked = this.#server.lines.length > 0
    this.emit('state', {
      answering: 'ai',
      name: 'Ava',
      conversation_id: talked ? `c-${this.#server.token}` : undefined,
    })
    for (const l of this.#server.lines) if (l.seq > Number(query.get('after'))) this.line(l)
  }

  line(l: Line): void {
    this.emit('line', l)
  }

  emit(name: string, data: unknown): void {
    this.dispatchEvent(new MessageEvent(name, { data: JSON.stringify(data) }))
  }

  fail(): void {
    this.close()
    this.onerror?.()
  }

  close(): void {
    this.#server.streams = this.#server.streams.filter((s) => s !== this)
  }
}
