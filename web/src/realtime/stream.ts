import { base } from '../api/client'
import type { LiveEvent, TypingEvent } from '../api/types'

export interface StreamHandlers {
  onFact: (event: LiveEvent) => void
  onTyping: (event: TypingEvent) => void
  /** The server no longer knows what was missed: everything must be fetched again. */
  onResync: () => void
  onState: (open: boolean) => void
  /** The server refused the stream: perhaps the session has ended. */
  onRefused: () => void
}

/** First wait after the browser gave the stream up; it doubles up to `longest`. */
const shortest = 1_000
const longest = 30_000
/** By then the page's first loads are done; they are checked once against the stream. */
const settle = 1_000

/**
 * Opens the live stream and keeps it open until the returned function is called.
 * The browser resumes by itself with Last-Event-ID; when it gives up (an HTTP error),
 * a new stream continues from the last seq seen.
 */
export function openStream(handlers: StreamHandlers): () => void {
  let source: EventSource | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let lastSeq: string | undefined
  let wait = shortest
  let settling: ReturnType<typeof setTimeout> | undefined
  let closed = false

  const remember = (event: MessageEvent<string>) => {
    if (event.lastEventId) lastSeq = event.lastEventId
  }

  const open = () => {
    const resume = lastSeq ? `?last_event_id=${encodeURIComponent(lastSeq)}` : ''
    const es = new EventSource(`${base}/live${resume}`)
    source = es
    es.addEventListener('open', () => {
      wait = shortest
      handlers.onState(true)
    })
    es.addEventListener('hello', (event) => {
      const { seq } = read<{ seq: number }>(event) ?? {}
      if (seq === undefined || lastSeq !== undefined) return
      // A stream that saw no fact yet resumes from where it began, and what the page loaded
      // before that may be older than the stream's beginning.
      lastSeq = String(seq)
      settling = setTimeout(handlers.onResync, settle)
    })
    es.addEventListener('fact', (event) => {
      remember(event)
      const fact = read<LiveEvent>(event)
      if (fact) handlers.onFact(fact)
    })
    es.addEventListener('typing', (event) => {
      const typing = read<TypingEvent>(event)
      if (typing) handlers.onTyping(typing)
    })
    es.addEventListener('resync', (event) => {
      remember(event)
      handlers.onResync()
    })
    es.addEventListener('error', () => {
      handlers.onState(false)
      if (es.readyState !== EventSource.CLOSED || closed) return
      handlers.onRefused()
      clearTimeout(timer)
      timer = setTimeout(open, wait)
      wait = Math.min(wait * 2, longest)
    })
  }

  open()
  return () => {
    closed = true
    clearTimeout(timer)
    clearTimeout(settling)
    source?.close()
  }
}

function read<T>(event: MessageEvent<string>): T | undefined {
  try {
    return JSON.parse(event.data) as T
  } catch {
    return undefined
  }
}
