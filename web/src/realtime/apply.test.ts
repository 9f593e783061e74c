import { QueryClient, QueryObserver } from '@tanstack/react-query'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { keys } from '../api/queries'
import type { Conversation, Message } from '../api/types'
import { conversation, fact, message } from '../test/records'
import { Applier, putConversation, touch, untouched } from './apply'
import { type Pages, threadOf } from './merge'

describe('touch', () => {
  it('names what each kind of fact makes stale', () => {
    const t = untouched()
    touch(t, fact('message', 'received', { conversation_id: 'c1' }))
    touch(t, fact('handoff', 'requested', { record_id: 'h1', conversation_id: 'c2' }))
    touch(t, fact('lead', 'moved', { record_id: 'l1', lead_id: 'l1' }))
    expect([...t.conversations]).toEqual(['c1', 'c2'])
    expect([...t.messages]).toEqual(['c1', 'c2'])
    expect([...t.handoffs]).toEqual(['h1'])
    expect([...t.leads]).toEqual(['l1'])
    expect(t.boards).toBe(true)
  })

  it('does not fetch a thread or a board again because somebody read it', () => {
    const t = untouched()
    touch(t, fact('conversation', 'read', { record_id: 'c1', conversation_id: 'c1' }))
    expect([...t.conversations]).toEqual(['c1'])
    expect(t.messages.size).toBe(0)
    expect(t.boards).toBe(false)
  })
})

describe('Applier', () => {
  const calls: string[] = []
  let answers: Record<string, unknown> = {}
  let cache: QueryClient

  beforeEach(() => {
    cache = new QueryClient()
    vi.stubGlobal('fetch', async (request: Request) => {
      const path = new URL(request.url, 'http://localhost').pathname.replace('/api/v1', '')
      calls.push(path)
      return Response.json(answers[path] ?? {}, { status: answers[path] ? 200 : 404 })
    })
  })
  afterEach(() => {
    calls.length = 0
    answers = {}
    vi.unstubAllGlobals()
    cache.clear()
  })

  it('fetches a conversation once for a burst and patches every list', async () => {
    const old = conversation('c1', { owner: { id: 'ava', kind: 'ai', name: 'Ava' } })
    const fresh = {
      ...old,
      preview: 'New words',
      fence: 2,
      owner: { id: 'me', kind: 'human', name: 'Me' } as const,
    }
    answers['/conversations/c1'] = fresh
    cache.setQueryData(keys.list('ai'), { pages: [{ items: [old] }], pageParams: [undefined] })
    cache.setQueryData(keys.list('all'), { pages: [{ items: [old] }], pageParams: [undefined] })
    const applier = new Applier(cache, 'me')
    const received = fact('message', 'received', { conversation_id: 'c1' })
    applier.fact(received)
    applier.fact(received)
    applier.fact(fact('conversation', 'taken_over', { record_id: 'c1', conversation_id: 'c1' }))
    await applier.flush()
    applier.close()
    expect(calls).toEqual(['/conversations/c1'])
    const items = (view: 'ai' | 'all') =>
      cache.getQueryData<Pages<Conversation>>(keys.list(view))?.pages.flatMap((p) => p.items)
    expect(items('ai')).toEqual([])
    expect(items('all')?.[0]?.preview).toBe('New words')
  })

  it('drops a fact that was already applied', async () => {
    answers['/conversations/c1'] = conversation('c1')
    cache.setQueryData(keys.conversation('c1'), conversation('c1'))
    const applier = new Applier(cache, 'me')
    const once = fact('message', 'sent', { conversation_id: 'c1' })
    applier.fact(once)
    await applier.flush()
    applier.fact(once)
    await applier.flush()
    applier.close()
    expect(calls).toEqual(['/conversations/c1'])
  })

  it('fetches the newest messages of an open thread and only marks the others stale', async () => {
    const start = { pages: [{ items: [message('m1', 1)] }], pageParams: [undefined] }
    for (const id of ['open', 'closed']) cache.setQueryData(keys.messages(id), start)
    const observer = new QueryObserver(cache, { queryKey: keys.messages('open'), enabled: false })
    const stop = observer.subscribe(() => {})
    answers['/conversations/open/messages'] = { items: [message('m1', 1), message('m2', 2)] }
    const applier = new Applier(cache, 'me')
    applier.fact(fact('message', 'received', { conversation_id: 'open' }))
    applier.fact(fact('message', 'received', { conversation_id: 'closed' }))
    await applier.flush()
    applier.close()
    stop()
    expect(calls).toEqual(['/conversations/open/messages'])
    expect(threadOf(cache.getQueryData<Pages<Message>>(keys.messages('open'))).map((m) => m.id)).toEqual([
      'm1',
      'm2',
    ])
    expect(cache.getQueryState(keys.messages('closed'))?.isInvalidated).toBe(true)
  })

  it('fetches counts and boards once a second at most', async () => {
    vi.useFakeTimers()
    cache.setQueryData(keys.counts, {})
    const invalidated = vi.spyOn(cache, 'invalidateQueries')
    const applier = new Applier(cache, 'me')
    for (let i = 0; i < 5; i++) {
      applier.fact(fact('lead', 'moved', { conversation_id: 'c1', lead_id: 'l1' }))
      await applier.flush()
    }
    const times = (key: string) => invalidated.mock.calls.filter(([f]) => f?.queryKey?.[0] === key).length
    expect(times('conversation-counts')).toBe(0)
    vi.advanceTimersByTime(1_000)
    expect(times('conversation-counts')).toBe(1)
    expect(times('board-leads')).toBe(1)
    applier.close()
    vi.useRealTimers()
  })

  it('marks everything stale after a resync, except who is signed in', () => {
    cache.setQueryData(['me'], {})
    cache.setQueryData(keys.boards, { items: [] })
    new Applier(cache, 'me').resync()
    expect(cache.getQueryState(keys.boards)?.isInvalidated).toBe(true)
    expect(cache.getQueryState(['me'])?.isInvalidated).toBe(false)
  })

  it('never turns the ownership back', () => {
    cache.setQueryData(keys.conversation('c1'), conversation('c1', { fence: 5 }))
    putConversation(cache, conversation('c1', { fence: 4, preview: 'old' }), 'me')
    expect(cache.getQueryData<Conversation>(keys.conversation('c1'))?.preview).toBe('Hi')
  })
})
