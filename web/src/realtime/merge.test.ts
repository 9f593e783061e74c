import { describe, expect, it } from 'vitest'
import type { Conversation, Message, Page } from '../api/types'
import { conversation, message } from '../test/records'
import { inView, mergeMessages, mergeNewest, type Pages, patchList, threadOf, withLocal } from './merge'

const me = 'me'
const ai = { id: 'ava', kind: 'ai', name: 'Ava' } as const
const mine = { id: me, kind: 'human', name: 'Daniel' } as const

function list(next: string | undefined, ...items: Conversation[]): Pages<Conversation> {
  return { pages: [{ items, next }], pageParams: [undefined] }
}

function thread(...pages: Page<Message>[]): Pages<Message> {
  return { pages, pageParams: pages.map(() => undefined) }
}

const ids = (data: Pages<{ id: string }>) => data.pages.flatMap((p) => p.items.map((x) => x.id))

describe('inView', () => {
  it.each([
    ['mine', { owner: mine }, true],
    ['mine', { owner: ai }, false],
    ['unowned', { owner: null, state: 'resolved' }, false],
    ['needs_you', { handoff: { id: 'h', reason: 'policy', created_at: '' } }, true],
    ['needs_you', { handoff: null }, false],
    ['ai', { owner: ai }, true],
    ['ai', { owner: mine }, false],
    ['unowned', { owner: null }, true],
    ['unowned', { owner: ai }, false],
    ['all', { state: 'resolved' }, true],
  ] as const)('%s with %o is %s', (view, change, expected) => {
    expect(inView(view, conversation('c', change as Partial<Conversation>), me)).toBe(expected)
  })
})

describe('patchList', () => {
  const a = conversation('a', { last_message_at: '2026-01-01T10:03:00Z' })
  const b = conversation('b', { last_message_at: '2026-01-01T10:02:00Z' })
  const c = conversation('c', { last_message_at: '2026-01-01T10:01:00Z' })

  it('moves a conversation to its new place', () => {
    const fresh = { ...c, last_message_at: '2026-01-01T10:04:00Z', preview: 'Hello' }
    const got = patchList(list(undefined, a, b, c), 'all', fresh, me)
    expect(ids(got)).toEqual(['c', 'a', 'b'])
    expect(got.pages[0]?.items[0]?.preview).toBe('Hello')
  })

  it('sorts by time although the server trims trailing zeros', () => {
    const whole = conversation('whole', { last_message_at: '2026-01-01T10:00:00Z' })
    const later = conversation('later', { last_message_at: '2026-01-01T10:00:00.5Z' })
    expect(ids(patchList(list(undefined, whole), 'all', later, me))).toEqual(['later', 'whole'])
  })

  it('replaces in place when no message came', () => {
    expect(ids(patchList(list(undefined, a, b, c), 'all', { ...b, unread: 3 }, me))).toEqual(['a', 'b', 'c'])
  })

  it('adds what newly belongs and takes out what no longer does', () => {
    const fresh = conversation('d', { owner: mine, last_message_at: '2026-01-01T10:02:30Z' })
    const added = patchList(list(undefined, a, b), 'mine', fresh, me)
    expect(ids(added)).toEqual(['a', 'd', 'b'])
    expect(ids(patchList(added, 'mine', { ...fresh, owner: ai }, me))).toEqual(['a', 'b'])
  })

  it('leaves what is older than the loaded pages to the next page', () => {
    const old = conversation('old', { last_message_at: '2025-01-01T00:00:00Z' })
    expect(ids(patchList(list('more', a, b), 'all', old, me))).toEqual(['a', 'b'])
    expect(ids(patchList(list(undefined, a, b), 'all', old, me))).toEqual(['a', 'b', 'old'])
  })
})

describe('mergeMessages', () => {
  it('replaces the local writing of a message by the stored one', () => {
    const local = message('local k', Number.POSITIVE_INFINITY, { client_key: 'k', status: 'sending' })
    const stored = message('m3', 3, { client_key: 'k', status: 'queued' })
    const got = mergeMessages(thread({ items: [message('m2', 2), local] }), [stored])
    expect(ids(got)).toEqual(['m2', 'm3'])
  })

  it('shows a message once when the live stream was faster than the answer', () => {
    const local = message('local k', Number.POSITIVE_INFINITY, { client_key: 'k', status: 'sending' })
    const live = mergeMessages(thread({ items: [local] }), [message('m3', 3)])
    const answered = mergeMessages(live, [message('m3', 3, { client_key: 'k' })])
    expect(threadOf(answered).map((m) => m.id)).toEqual(['m3'])
  })

  it('raises the state of a message in an older page where it stands', () => {
    const data = thread({ items: [message('m9', 9)] }, { items: [message('m1', 1, { status: 'queued' })] })
    const got = mergeMessages(data, [message('m1', 1, { status: 'sent' })])
    expect(got.pages[1]?.items[0]?.status).toBe('sent')
    expect(threadOf(got).map((m) => m.id)).toEqual(['m1', 'm9'])
  })

  it('puts an event line after the message whose number it carries', () => {
    const event = message('e', 2, { kind: 'event' })
    const got = mergeMessages(thread({ items: [message('m2', 2)] }), [event, message('m3', 3)])
    expect(threadOf(got).map((m) => m.id)).toEqual(['m2', 'e', 'm3'])
  })
})

describe('withLocal', () => {
  it('keeps what is unsent and drops what has arrived', () => {
    const unsent = message('local a', Number.POSITIVE_INFINITY, { client_key: 'a', status: 'unsent' })
    const arrived = message('local b', Number.POSITIVE_INFINITY, { client_key: 'b', status: 'sending' })
    const fresh = { items: [message('m1', 1, { client_key: 'b' })] }
    const got = withLocal(fresh, { items: [message('m0', 0), unsent, arrived] })
    expect(got.items.map((m) => m.id)).toEqual(['m1', 'local a'])
  })
})

describe('mergeNewest', () => {
  it('keeps what is loaded when the pages touch', () => {
    const data = thread({ items: [message('m2', 2)], next: '2' }, { items: [message('m1', 1)] })
    const got = mergeNewest(data, { items: [message('m2', 2), message('m3', 3)], next: '2' })
    expect(threadOf(got).map((m) => m.id)).toEqual(['m1', 'm2', 'm3'])
  })

  it('starts afresh after a gap but keeps what is still on its way', () => {
    const local = message('local k', Number.POSITIVE_INFINITY, { client_key: 'k', status: 'unsent' })
    const data = thread({ items: [message('m2', 2), local], next: '2' })
    const got = mergeNewest(data, { items: [message('m90', 90)], next: '90' })
    expect(threadOf(got).map((m) => m.id)).toEqual(['m90', 'local k'])
  })
})
