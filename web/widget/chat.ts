import { type Kept, type Pending, Store } from './store'
import {
  type Answering,
  backoff,
  type CallError,
  call,
  type Line,
  type Session,
  type Typing,
  uuid,
} from './wire'

/** The longest message, in characters as the server counts them. */
export const maxText = 8000

const slowNotice = 5000 // ms without a connection before the visitor is told
const restAfter = 60_000 // ms hidden before a tab gives up its stream
const typingEvery = 3000 // ms between two signs that the visitor writes

/** Everything that the window shows. */
export interface View {
  open: boolean
  ready: boolean // the server has answered once
  troubled: boolean // no connection for some seconds
  title: string
  greeting: string
  accent: string
  who: Answering
  lines: Line[]
  pending: Pending[] // not confirmed yet, or confirmed and not yet in lines
  typing: Typing | undefined
  unread: number
}

/**
 * Chat is one visitor's conversation. It owns the visitor token, the stream and the queue of
 * unsent messages. A message leaves the queue only when the server has confirmed it; the stream
 * resumes after the last line that it brought, so confirmed messages never hide a line before them.
 */
export class Chat {
  view: View
  readonly #url: string
  readonly #key: string
  readonly #store: Store
  readonly #kept: Kept
  readonly #watchers = new Set<() => void>()
  #started = false
  #session: Promise<void> | undefined
  #stream: EventSource | undefined
  #failures = 0 // of the stream, in a row
  #sending = false
  #tries = 0 // of the message at the head of the queue
  #typedAt = 0
  #streamTimer: ReturnType<typeof setTimeout> | undefined
  #sendTimer: ReturnType<typeof setTimeout> | undefined
  #slowTimer: ReturnType<typeof setTimeout> | undefined
  #typingTimer: ReturnType<typeof setTimeout> | undefined
  #restTimer: ReturnType<typeof setTimeout> | undefined

  constructor(url: string, key: string, title: string, store = new Store(key)) {
    this.#url = url
    this.#key = key
    this.#store = store
    this.#kept = store.load()
    this.view = {
      open: this.#kept.open,
      ready: false,
      troubled: false,
      title,
      greeting: '',
      accent: '',
      who: { answering: 'team', name: title },
      lines: this.#kept.lines,
      pending: store.queue(),
      typing: undefined,
      unread: 0,
    }
    this.#count()
    // A visitor who never opens the chat costs the server nothing.
    if (this.view.open || this.#kept.conversation || this.view.pending.length > 0) this.start()
    document.addEventListener('visibilitychange', this.#visibility)
    addEventListener('online', this.#online)
  }

  /** subscribe calls fn after each change of view, until the returned function is called. */
  subscribe(fn: () => void): () => void {
    this.#watchers.add(fn)
    return () => this.#watchers.delete(fn)
  }

  /** stop ends every connection and timer. */
  stop(): void {
    document.removeEventListener('visibilitychange', this.#visibility)
    removeEventListener('online', this.#online)
    this.#started = false
    this.#disconnect()
    for (const t of [this.#sendTimer, this.#slowTimer, this.#typingTimer, this.#restTimer]) clearTimeout(t)
  }

  setOpen(open: boolean): void {
    this.#kept.open = open
    this.#change({ open })
    this.#look()
    if (open) this.start()
  }

  /** start connects; a second call does nothing. */
  start(): void {
    if (this.#started) return
    this.#started = true
    this.#trouble()
    void this.#connect()
    void this.#flush()
  }

  /** send shows a message at once and delivers it as soon as possible, over reloads too. */
  send(text: string): boolean {
    const clean = text.trim()
    if (!clean || [...clean].length > maxText) return false
    const last = this.view.pending.at(-1)?.at ?? 0
    const p: Pending = { id: uuid(), text: clean, at: Math.max(Date.now(), last + 1), state: 'waiting' }
    this.#store.put(p)
    this.#change({ pending: [...this.view.pending, p] })
    this.start()
    void this.#flush()
    return true
  }

  /** discard removes a message that the server refused for good. */
  discard(id: string): void {
    this.#store.drop(id)
    this.#change({ pending: this.view.pending.filter((p) => p.id !== id) })
  }

  /** typing tells the team that the visitor writes. */
  typing(): void {
    const now = Date.now()
    if (!this.#kept.conversation || now - this.#typedAt < typingEvery) return
    this.#typedAt = now
    call(`${this.#url}/typing`, {}, this.#kept.token).catch(() => {}) // a lost one harms nobody
  }

  // --- session

  /** #enter makes sure of a visitor token; it throws when the server cannot be reached now. */
  #enter(again = false): Promise<void> {
    if (this.#session && !again) return this.#session
    const session = alone(`tandem:${this.#key}`, async () => {
      const token = this.#store.load().token || this.#kept.token // another tab may have got one meanwhile
      const s = await call<Session>(`${this.#url}/session`, token ? { token } : {})
      const conversation = s.conversation_id ?? ''
      // Another conversation than the kept lines are of: the server's thread is the truth.
      if (this.#kept.conversation && conversation !== this.#kept.conversation) this.#forget()
      this.#kept.token = s.token
      this.#kept.conversation = conversation
      this.#save()
      this.#change({
        ready: true,
        title: s.title,
        greeting: s.greeting,
        accent: s.accent ?? '',
        who: { answering: s.answers, name: s.name },
      })
    })
    this.#session = session
    session.catch(() => {
      if (this.#session === session) this.#session = undefined
    })
    return session
  }

  #forget(): void {
    this.#kept.lines = []
    this.#kept.read = 0
    this.#change({ lines: [] })
  }

  // --- stream

  async #connect(): Promise<void> {
    clearTimeout(this.#streamTimer)
    if (!this.#started || this.#stream) return
    try {
      // EventSource hides why it failed; the session call tells, and renews a token that ran out.
      await this.#enter(this.#failures > 0 && this.#failures % 3 === 0)
    } catch (e) {
      this.#again((e as CallError).retryAfter)
      return
    }
    if (!this.#started || this.#stream || document.hidden) return
    const after = this.#kept.lines.at(-1)?.seq ?? 0
    const stream = new EventSource(
      `${this.#url}/stream?token=${encodeURIComponent(this.#kept.token)}&after=${after}`,
    )
    this.#stream = stream
    const on = <T>(name: string, fn: (data: T) => void) =>
      stream.addEventListener(name, (e) => {
        if (this.#stream !== stream) return
        this.#failures = 0
        fn(JSON.parse((e as MessageEvent<string>).data) as T)
      })
    stream.onopen = () => this.#calm()
    stream.onerror = () => {
      if (this.#stream !== stream) return
      this.#disconnect()
      this.#again(0)
    }
    on<Line>('line', (l) => this.#line(l))
    on<Answering>('state', (who) => {
      if (who.conversation_id) this.#kept.conversation = who.conversation_id
      this.#change({ who })
      this.#save()
    })
    on<Typing>('typing', (t) => this.#typing(t))
  }

  #again(retryAfter: number): void {
    this.#trouble()
    clearTimeout(this.#streamTimer)
    this.#streamTimer = setTimeout(() => void this.#connect(), backoff(this.#failures++, retryAfter))
  }

  #disconnect(): void {
    clearTimeout(this.#streamTimer)
    this.#stream?.close()
    this.#stream = undefined
    this.#change({ typing: undefined })
  }

  #line(l: Line): void {
    if (l.seq <= (this.#kept.lines.at(-1)?.seq ?? 0)) return
    this.#kept.lines = [...this.#kept.lines, l]
    if (l.client_id) this.#store.drop(l.client_id) // another tab may have sent it
    this.#change({
      lines: this.#kept.lines,
      pending: l.client_id ? this.view.pending.filter((p) => p.id !== l.client_id) : this.view.pending,
      typing: l.from === 'visitor' ? this.view.typing : undefined,
    })
    this.#look()
  }

  #typing(t: Typing): void {
    clearTimeout(this.#typingTimer)
    const stops = t.expires_in <= 0
    this.#change({ typing: stops ? undefined : t })
    if (!stops) this.#typingTimer = setTimeout(() => this.#change({ typing: undefined }), t.expires_in)
  }

  // --- queue

  /** #flush sends the waiting messages one by one, in order. */
  async #flush(): Promise<void> {
    clearTimeout(this.#sendTimer)
    if (this.#sending || !this.#started) return
    this.#sending = true
    try {
      for (let p = this.#head(); p && this.#started; p = this.#head()) await this.#deliver(p)
    } catch (e) {
      this.#trouble()
      const wait = backoff(this.#tries++, (e as CallError).retryAfter)
      this.#sendTimer = setTimeout(() => void this.#flush(), wait)
    } finally {
      this.#sending = false
    }
  }

  #head(): Pending | undefined {
    return this.view.pending.find((p) => p.state === 'waiting' || p.state === 'sending')
  }

  async #deliver(p: Pending): Promise<void> {
    await this.#enter()
    this.#mark(p.id, { state: 'sending' })
    try {
      await call(`${this.#url}/messages`, { id: p.id, text: p.text }, this.#kept.token)
    } catch (e) {
      const error = e as CallError
      if (error.permanent) {
        this.#store.put({ ...p, state: 'refused', error: error.detail })
        this.#mark(p.id, { state: 'refused', error: error.detail })
        return
      }
      this.#mark(p.id, { state: 'waiting' })
      if (error.status === 401) this.#session = undefined // the token ran out: the next try gets another
      throw error
    }
    this.#tries = 0
    this.#store.drop(p.id)
    this.#mark(p.id, { state: 'sent' }) // it stays in view until the stream brings it
    this.#calm()
    if (!this.#stream && !document.hidden) void this.#connect()
  }

  #mark(id: string, what: Partial<Pending>): void {
    this.#change({ pending: this.view.pending.map((p) => (p.id === id ? { ...p, ...what } : p)) })
  }

  // --- page

  #online = () => {
    if (!this.#started) return
    this.#failures = 0
    this.#tries = 0
    void this.#connect()
    void this.#flush()
  }

  #visibility = () => {
    clearTimeout(this.#restTimer)
    if (document.hidden) {
      // A tab in the background gives its stream up: browsers and the server count them.
      this.#restTimer = setTimeout(() => this.#disconnect(), restAfter)
    } else {
      this.#look()
      if (!this.#stream) this.#online()
    }
  }

  /** #look counts what the visitor sees as read. */
  #look(): void {
    if (this.view.open && !document.hidden) this.#kept.read = this.#kept.lines.at(-1)?.seq ?? 0
    this.#count()
    this.#save()
  }

  #count(): void {
    const unread = this.#kept.lines.filter((l) => l.from !== 'visitor' && l.seq > this.#kept.read).length
    if (unread !== this.view.unread) this.#change({ unread })
  }

  #save(): void {
    this.#store.save(this.#kept)
  }

  #trouble(): void {
    this.#slowTimer ??= setTimeout(() => this.#change({ troubled: true }), slowNotice)
  }

  #calm(): void {
    clearTimeout(this.#slowTimer)
    this.#slowTimer = undefined
    if (this.view.troubled) this.#change({ troubled: false })
  }

  #change(what: Partial<View>): void {
    this.view = { ...this.view, ...what }
    for (const fn of this.#watchers) fn()
  }
}

/** alone runs fn while no other tab runs one of the same name, where browsers can tell. */
async function alone(name: string, fn: () => Promise<void>): Promise<void> {
  if (navigator.locks) await navigator.locks.request(name, fn)
  else await fn()
}
