/** What the web chat endpoints send and take. */

export type Voice = 'visitor' | 'ai' | 'human' | 'system'

export interface Source {
  title: string
  url?: string
}

export interface Line {
  seq: number
  id: string
  from: Voice
  name: string
  text: string
  at: string
  client_id?: string
  sources?: Source[]
}

export interface Session {
  token: string
  conversation_id?: string
  title: string
  greeting: string
  team: string
  accent?: string
  answers: 'ai' | 'human' | 'team'
  name: string
}

export interface Answering {
  answering: 'ai' | 'human' | 'team'
  name: string
  conversation_id?: string
}

export interface Typing {
  from: 'ai' | 'human'
  name: string
  /** Milliseconds that it still holds; 0: they stopped. */
  expires_in: number
}

/** A call that did not succeed. */
export class CallError extends Error {
  constructor(
    readonly status: number, // 0: no answer at all
    readonly detail: string,
    readonly retryAfter: number, // seconds; 0: unknown
  ) {
    super(`${status} ${detail}`)
  }

  /** The same call will fail again, whenever it is made. */
  get permanent(): boolean {
    return this.status === 400 || this.status === 413 || this.status === 422
  }
}

const patience = 20_000 // ms for one call

/** call posts JSON and returns the answer, or throws a CallError. */
export async function call<T>(url: string, body: unknown, token?: string): Promise<T> {
  const headers: Record<string, string> = { 'Content-Type': 'application/json' }
  if (token) headers.Authorization = `Bearer ${token}`
  const abort = new AbortController()
  const timer = setTimeout(() => abort.abort(), patience)
  try {
    const res = await fetch(url, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      credentials: 'omit',
      signal: abort.signal,
      keepalive: true, // a message sent just before the visitor leaves still arrives
    })
    const answer = res.status === 204 ? undefined : await res.json()
    if (res.ok) return answer as T
    throw new CallError(
      res.status,
      wrongField(answer) ?? answer?.detail ?? '',
      Number(res.headers.get('Retry-After')) || 0,
    )
  } catch (e) {
    if (e instanceof CallError) throw e
    throw new CallError(0, '', 0)
  } finally {
    clearTimeout(timer)
  }
}

function wrongField(problem: { errors?: { message?: string }[] } | undefined): string | undefined {
  return problem?.errors?.[0]?.message
}

/** backoff is how long to wait before try n (0 is the first retry), in ms, with jitter. */
export function backoff(n: number, retryAfter = 0): number {
  const plain = Math.min(1000 * 2 ** n, 30_000) * (0.75 + Math.random() / 2)
  return Math.max(plain, retryAfter * 1000)
}

/** uuid works on plain http pages too, where crypto.randomUUID does not exist. */
export function uuid(): string {
  const b = crypto.getRandomValues(new Uint8Array(16))
  b[6] = ((b[6] as number) & 0x0f) | 0x40
  b[8] = ((b[8] as number) & 0x3f) | 0x80
  const x = Array.from(b, (n) => n.toString(16).padStart(2, '0')).join('')
  return `${x.slice(0, 8)}-${x.slice(8, 12)}-${x.slice(12, 16)}-${x.slice(16, 20)}-${x.slice(20)}`
}
