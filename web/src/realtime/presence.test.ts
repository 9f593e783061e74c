import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { presence } from './presence'

const ava = { id: 'ava', kind: 'ai', name: 'Ava' } as const

describe('presence', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const until = (milliseconds: number) => new Date(Date.now() + milliseconds).toISOString()

  it('shows who writes until the time is over', () => {
    presence.typing({ conversation_id: 'c', member: ava, until: until(4_000) })
    presence.typing({ conversation_id: 'c', member: 'contact', until: until(2_000) })
    expect(presence.typists('c').map((t) => t.kind)).toEqual(['ai', 'contact'])
    vi.advanceTimersByTime(2_100)
    expect(presence.typists('c').map((t) => t.kind)).toEqual(['ai'])
    vi.advanceTimersByTime(2_000)
    expect(presence.typists('c')).toEqual([])
  })

  it('is lengthened by a newer sign and ended by one that is over', () => {
    presence.typing({ conversation_id: 'c', member: ava, until: until(1_000) })
    presence.typing({ conversation_id: 'c', member: ava, until: until(3_000) })
    vi.advanceTimersByTime(2_000)
    expect(presence.typists('c')).toHaveLength(1)
    presence.typing({ conversation_id: 'c', member: ava, until: until(-1) })
    expect(presence.typists('c')).toEqual([])
  })

  it('says that the stream is lost only after five seconds', () => {
    presence.streamState(false)
    vi.advanceTimersByTime(4_900)
    expect(presence.isLost()).toBe(false)
    presence.streamState(false)
    vi.advanceTimersByTime(200)
    expect(presence.isLost()).toBe(true)
    presence.streamState(true)
    expect(presence.isLost()).toBe(false)
  })
})
