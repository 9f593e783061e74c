import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Chat, maxText } from './chat'
import { FakeServer } from './fakeserver'
import { Store } from './store'

let server: FakeServer
let open: Chat[] = []

beforeEach(() => {
  vi.useFakeTimers({ now: new Date('2026-05-04T12:00:00Z') })
  localStorage.clear()
  server = new FakeServer()
  server.install()
})

afterEach(() => {
  for (const c of open) c.stop()
  open = []
  vi.unstubAllGlobals()
  vi.useRealTimers()
})

/** page loads the widget, as a page load or a second tab does. */
function page(): Chat {
  const c = new Chat('https://hub.example/chat/pk', 'pk', 'Chat')
  open.push(c)
  return c
}

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const texts = (c: Chat) => c.view.lines.map((l) => l.text)
const states = (c: Chat) => c.view.pending.map((p) => p.state)

function hide(hidden: boolean): void {
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden })
  document.dispatchEvent(new Event('visibilitychange'))
}

describe('a visit', () => {
  it('asks the server for nothing until the visitor opens the chat', async () => {
    const c = page()
    await pass(60_000)
    expect(server.sessions).toBe(0)
    c.setOpen(true)
    await pass(10)
    expect(server.sessions).toBe(1)
    expect(c.view.greeting).toBe('Hello!')
    expect(c.view.who).toMatchObject({ answering: 'ai', name: 'Ava' })
  })

  it('shows a message at once and confirms it with its place in the thread', async () => {
    const c = page()
    c.setOpen(true)
    expect(c.send('  hi  ')).toBe(true)
    expect(c.view.pending.map((p) => p.text)).toEqual(['hi'])
    await pass(50)
    expect(c.view.pending).toEqual([])
    expect(texts(c)).toEqual(['hi'])
    server.say('ai', 'Hello!')
    expect(texts(c)).toEqual(['hi', 'Hello!'])
  })

  it('refuses empty and too long messages', () => {
    const c = page()
    expect(c.send(' \n ')).toBe(false)
    expect(c.send('é'.repeat(maxText + 1))).toBe(false)
    expect(c.send('😀'.repeat(maxText))).toBe(true) // characters, not UTF-16 units
  })

  it('shows who writes, for as long as the server says', async () => {
    const c = page()
    c.setOpen(true)
    await pass(10)
    server.type({ from: 'ai', name: 'Ava', expires_in: 5000 })
    expect(c.view.typing?.name).toBe('Ava')
    await pass(5001)
    expect(c.view.typing).toBeUndefined()
    server.type({ from: 'human', name: 'Daniel', expires_in: 5000 })
    server.say('human', 'Hello')
    expect(c.view.typing).toBeUndefined()
  })

  it('tells at most every three seconds that the visitor writes', async () => {
    const c = page()
    c.send('hi')
    await pass(50)
    for (let i = 0; i < 60; i++) {
      c.typing()
      await pass(100)
    }
    expect(server.typed).toBe(2)
  })
})

describe('the queue', () => {
  it('loses nothing while the server is away, and keeps the order', async () => {
    server.down = true
    const c = page()
    c.setOpen(true)
    for (const t of ['one', 'two', 'three']) c.send(t)
    await pass(10 * 60_000)
    expect(states(c)).toEqual(['waiting', 'waiting', 'waiting'])
    expect(c.view.troubled).toBe(true)
    server.down = false
    await pass(40_000)
    expect(server.posts.map((p) => p.text)).toEqual(['one', 'two', 'three'])
    expect(texts(c)).toEqual(['one', 'two', 'three'])
    expect(c.view.pending).toEqual([])
    expect(c.view.troubled).toBe(false)
  })

  it('sends after a reload what the page before could not', async () => {
    server.down = true
    const before = page()
    before.send('still here')
    await pass(5000)
    before.stop()
    server.down = false
    const after = page()
    expect(after.view.pending.map((p) => p.text)).toEqual(['still here'])
    await pass(100)
    expect(server.posts.map((p) => p.text)).toEqual(['still here'])
    expect(new Store('pk').queue()).toEqual([])
  })

  it.each([0, 429, 500, 503, 404])('repeats after %i under the same id', async (status) => {
    server.faults = [{ status }, { status }]
    const c = page()
    c.send('once')
    await pass(20_000)
    expect(server.posts).toHaveLength(1)
    expect(texts(c)).toEqual(['once'])
  })

  it('sends once what was taken although the answer was lost', async () => {
    server.faults = [{ status: 299 }]
    const c = page()
    c.send('once')
    await pass(20_000)
    expect(new Set(server.posts.map((p) => p.id)).size).toBe(1)
    expect(server.lines).toHaveLength(1)
    expect(texts(c)).toEqual(['once'])
    expect(c.view.pending).toEqual([])
  })

  it('waits as long as Retry-After says', async () => {
    server.faults = [{ status: 429, retryAfter: 30 }]
    const c = page()
    c.send('patient')
    await pass(29_900)
    expect(server.posts).toHaveLength(0)
    await pass(1000)
    expect(server.posts).toHaveLength(1)
  })

  it('keeps what the server refuses for good, and goes on with the next', async () => {
    server.faults = [{ status: 422 }]
    const c = page()
    c.send('bad')
    c.send('good')
    await pass(1000)
    expect(server.posts.map((p) => p.text)).toEqual(['good'])
    expect(c.view.pending).toMatchObject([{ text: 'bad', state: 'refused', error: 'No.' }])
    c.stop()
    const again = page()
    await pass(60_000)
    expect(again.view.pending).toMatchObject([{ text: 'bad', state: 'refused' }])
    again.discard(again.view.pending[0]?.id ?? '')
    expect(new Store('pk').queue()).toEqual([])
  })

  it('gets a new token when the old one ran out, and the message arrives', async () => {
    const c = page()
    c.send('first')
    await pass(100)
    server.token = 'v1.new'
    server.lines = []
    c.send('second')
    await pass(20_000)
    expect(server.posts.at(-1)).toMatchObject({ text: 'second', token: 'v1.new' })
  })

  it('lets two tabs share the visitor, and shows each message once in both', async () => {
    const a = page()
    a.setOpen(true)
    await pass(50)
    const b = page()
    await pass(50)
    a.send('from a')
    b.send('from b')
    await pass(100)
    expect(new Set(server.posts.map((p) => p.token))).toEqual(new Set(['v1.ann']))
    expect(texts(a).sort()).toEqual(['from a', 'from b'])
    expect(texts(b)).toEqual(texts(a))
  })
})

describe('the stream', () => {
  it('resumes after the last line it brought: no gap, no repeat', async () => {
    const c = page()
    c.setOpen(true)
    await pass(50)
    for (let i = 0; i < 50; i++) {
      server.say('ai', String(i))
      if (i % 5 === 0) server.cut()
      if (i % 7 === 0) await pass(3000)
    }
    await pass(60_000)
    expect(texts(c)).toEqual(Array.from({ length: 50 }, (_, i) => String(i)))
    expect(new Set(c.view.lines.map((l) => l.seq)).size).toBe(50)
  })

  it('ignores a line that it has', async () => {
    const c = page()
    c.setOpen(true)
    await pass(50)
    const line = server.say('ai', 'once')
    for (const s of server.streams) s.line(line)
    expect(texts(c)).toEqual(['once'])
  })

  it('does not skip a line that came before a confirmed message', async () => {
    const c = page()
    c.setOpen(true)
    await pass(50)
    server.cut() // the AI's line is on its way while the visitor writes
    server.say('ai', 'before')
    c.send('mine')
    await pass(20)
    await pass(60_000)
    expect(texts(c)).toEqual(['before', 'mine'])
  })

  it('continues after a reload from what it kept', async () => {
    const c = page()
    c.setOpen(true)
    c.send('hi')
    await pass(50)
    server.say('ai', 'Hello!')
    c.stop()
    server.say('ai', 'Are you there?')
    const again = page()
    expect(texts(again)).toEqual(['hi', 'Hello!']) // before the network
    await pass(50)
    expect(texts(again)).toEqual(['hi', 'Hello!', 'Are you there?'])
    expect(server.opened.at(-1)).toContain('after=2')
  })

  it('forgets a thread that is not the visitor’s any more', async () => {
    const c = page()
    c.send('hi')
    await pass(50)
    c.stop()
    server.token = 'v1.other'
    server.lines = []
    const again = page()
    await pass(50)
    expect(again.view.lines).toEqual([])
    expect(server.opened.at(-1)).toContain('token=v1.other&after=0')
  })

  it('counts what came while nobody looked', async () => {
    const c = page()
    c.send('hi')
    c.setOpen(true)
    await pass(50)
    c.setOpen(false)
    server.say('ai', 'one')
    server.say('human', 'two')
    expect(c.view.unread).toBe(2)
    c.stop()
    const again = page()
    expect(again.view.unread).toBe(2)
    again.setOpen(true)
    expect(again.view.unread).toBe(0)
  })

  it('rests in a hidden tab and catches up when the tab is seen again', async () => {
    const c = page()
    c.setOpen(true)
    await pass(50)
    hide(true)
    await pass(61_000)
    expect(server.streams).toHaveLength(0)
    server.say('ai', 'psst')
    await pass(60_000)
    expect(texts(c)).toEqual([])
    hide(false)
    await pass(50)
    expect(texts(c)).toEqual(['psst'])
    expect(c.view.unread).toBe(0)
  })
})

describe('the store', () => {
  it('lives without localStorage', async () => {
    const broken = new Proxy({} as Storage, {
      get() {
        throw new Error('blocked')
      },
    })
    const s = new Store('pk', broken)
    s.put({ id: '1', text: 'x', at: 1, state: 'waiting' })
    expect(s.queue()).toEqual([])
    expect(s.load().token).toBe('')
    const memory = new Chat('https://hub.example/chat/pk', 'pk', 'Chat', new Store('pk', undefined))
    open.push(memory)
    memory.send('hi')
    await pass(50)
    expect(texts(memory)).toEqual(['hi'])
  })

  it('survives what others left under its keys', () => {
    localStorage.setItem('tandem:pk', '{broken')
    localStorage.setItem('tandem:pk:out:1', 'null')
    localStorage.setItem('tandem:pk:out:2', '{"id":5}')
    const s = new Store('pk')
    expect(s.load().lines).toEqual([])
    expect(s.queue()).toEqual([])
  })

  it('reads a very long thread again instead of keeping it', () => {
    const s = new Store('pk')
    const line = { id: 'm', from: 'ai' as const, name: '', text: '', at: '' }
    s.save({
      ...s.load(),
      token: 't',
      lines: Array.from({ length: 301 }, (_, i) => ({ ...line, seq: i + 1 })),
    })
    expect(s.load()).toMatchObject({ token: 't', lines: [] })
  })
})
