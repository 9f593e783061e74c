import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openStream } from './stream'

class FakeSource {
  static all: FakeSource[] = []
  static readonly CLOSED = 2
  readyState = 0
  closed = false
  private readonly listeners = new Map<string, (event: Partial<MessageEvent>) => void>()
  constructor(readonly url: string) {
    FakeSource.all.push(this)
  }
  addEventListener(name: string, listener: (event: Partial<MessageEvent>) => void) {
    this.listeners.set(name, listener)
  }
  send(name: string, data?: unknown, lastEventId = '') {
    this.listeners.get(name)?.({ data: JSON.stringify(data), lastEventId })
  }
  fail(gone: boolean) {
    this.readyState = gone ? 2 : 0
    this.send('error')
  }
  close() {
    this.closed = true
  }
}

describe('openStream', () => {
  const handlers = {
    onFact: vi.fn(),
    onTyping: vi.fn(),
    onResync: vi.fn(),
    onState: vi.fn(),
    onRefused: vi.fn(),
  }
  let close = () => {}

  beforeEach(() => {
    vi.useFakeTimers()
    vi.stubGlobal('EventSource', FakeSource)
    FakeSource.all = []
    for (const h of Object.values(handlers)) h.mockClear()
    close = openStream(handlers)
  })
  afterEach(() => {
    close()
    vi.unstubAllGlobals()
    vi.useRealTimers()
  })

  const latest = () => FakeSource.all[FakeSource.all.length - 1] as FakeSource

  it('hands facts and typing on, and survives what it cannot read', () => {
    latest().send('fact', { id: 'e1' }, '7')
    latest().send('typing', { conversation_id: 'c' })
    latest().send('fact', undefined, '8')
    expect(handlers.onFact).toHaveBeenCalledWith({ id: 'e1' })
    expect(handlers.onFact).toHaveBeenCalledTimes(1)
    expect(handlers.onTyping).toHaveBeenCalledWith({ conversation_id: 'c' })
  })

  it('leaves a short break to the browser and resumes by itself after a long one, ever more slowly', () => {
    latest().send('fact', { id: 'e1' }, '7')
    latest().fail(false)
    vi.advanceTimersByTime(60_000)
    expect(FakeSource.all).toHaveLength(1)
    expect(handlers.onRefused).not.toHaveBeenCalled()
    latest().fail(true)
    expect(handlers.onRefused).toHaveBeenCalledTimes(1)
    vi.advanceTimersByTime(1_000)
    expect(FakeSource.all).toHaveLength(2)
    expect(latest().url).toBe('/api/v1/live?last_event_id=7')
    latest().fail(true)
    vi.advanceTimersByTime(1_000)
    expect(FakeSource.all).toHaveLength(2)
    vi.advanceTimersByTime(1_000)
    expect(FakeSource.all).toHaveLength(3)
    expect(handlers.onState).toHaveBeenLastCalledWith(false)
    latest().send('open')
    expect(handlers.onState).toHaveBeenLastCalledWith(true)
  })

  it('checks the first loads once against the beginning of the stream', () => {
    latest().send('hello', { seq: 5 })
    latest().send('hello', { seq: 9 })
    vi.advanceTimersByTime(5_000)
    expect(handlers.onResync).toHaveBeenCalledTimes(1)
    latest().fail(true)
    vi.advanceTimersByTime(1_000)
    expect(latest().url).toContain('last_event_id=5')
  })

  it('passes a resync on and stays closed once closed', () => {
    latest().send('resync', {})
    expect(handlers.onResync).toHaveBeenCalledTimes(1)
    close()
    latest().fail(true)
    vi.advanceTimersByTime(60_000)
    expect(FakeSource.all).toHaveLength(1)
    expect(latest().closed).toBe(true)
  })
})
