import type { InfiniteData } from '@tanstack/react-query'
import type { Conversation, ConversationView, Message, Page } from '../api/types'

export type Pages<T> = InfiniteData<Page<T>, string | undefined>

/** Whether a conversation belongs to a tab of the inbox, as the server decides it. */
export function inView(view: ConversationView, c: Conversation, myId: string): boolean {
  switch (view) {
    case 'all':
      return true
    case 'mine':
      return c.owner?.id === myId
    case 'needs_you':
      return Boolean(c.handoff)
    case 'ai':
      return c.owner?.kind === 'ai'
    case 'unowned':
      return !c.owner && c.state === 'open'
  }
}

/** As a number: the server trims trailing zeros of a second, so texts do not sort. */
const stamp = (c: Conversation) => Date.parse(c.last_message_at ?? c.created_at)

/**
 * Puts the newest state of a conversation into a loaded list: replaced and moved by its
 * last message, added when it newly belongs, taken out when it no longer does. What lies
 * below the loaded pages is left to the next page.
 */
export function patchList(
  data: Pages<Conversation>,
  view: ConversationView,
  c: Conversation,
  myId: string,
): Pages<Conversation> {
  const belongs = inView(view, c, myId)
  const all = data.pages.flatMap((p) => p.items)
  const old = all.find((x) => x.id === c.id)
  if (!old && !belongs) return data
  if (old && belongs && stamp(old) === stamp(c)) {
    return mapPages(data, (items) => items.map((x) => (x.id === c.id ? c : x)))
  }
  const without = mapPages(data, (items) => items.filter((x) => x.id !== c.id))
  if (!belongs) return without

  const more = data.pages[data.pages.length - 1]?.next !== undefined
  for (let p = 0; p < without.pages.length; p++) {
    const items = without.pages[p]?.items ?? []
    const at = items.findIndex((x) => stamp(x) < stamp(c))
    if (at >= 0) return insertAt(without, p, at, c)
  }
  // Older than everything loaded: it belongs here only when nothing follows.
  return more ? without : insertAt(without, without.pages.length - 1, Number.POSITIVE_INFINITY, c)
}

function insertAt(data: Pages<Conversation>, page: number, at: number, c: Conversation): Pages<Conversation> {
  return {
    ...data,
    pages: data.pages.map((p, i) => {
      if (i !== page) return p
      const items = [...p.items]
      items.splice(at, 0, c)
      return { ...p, items }
    }),
  }
}

function mapPages<T>(data: Pages<T>, change: (items: T[]) => T[]): Pages<T> {
  return { ...data, pages: data.pages.map((p) => ({ ...p, items: change(p.items) })) }
}

/** Two writings of the same message: the server's id, or our own idempotency key. */
function same(a: Message, b: Message): boolean {
  return a.id === b.id || (a.client_key !== undefined && a.client_key === b.client_key)
}

/** Messages by seq; an event line stands after the message whose seq it carries. */
export function inOrder(a: Message, b: Message): number {
  if (a.seq !== b.seq) return a.seq - b.seq
  const rank = (m: Message) => (m.kind === 'event' ? 1 : 0)
  return (
    rank(a) - rank(b) ||
    Date.parse(a.created_at) - Date.parse(b.created_at) ||
    (a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
  )
}

/** Adds or replaces messages in the newest page; a message of an older page is replaced where it is. */
export function mergeMessages(data: Pages<Message>, fresh: Message[]): Pages<Message> {
  const first = data.pages[0]
  if (!first) return data
  const placed = new Set<Message>()
  const pages = data.pages.map((page) => ({
    ...page,
    items: page.items.flatMap((old) => {
      const m = fresh.find((x) => same(old, x))
      if (!m) return [old]
      // The live stream may have brought the stored message while ours was still on its way.
      if (placed.has(m)) return []
      placed.add(m)
      return [m]
    }),
  }))
  const added = fresh.filter((m) => !placed.has(m))
  pages[0] = { ...first, items: [...(pages[0]?.items ?? []), ...added].sort(inOrder) }
  return { ...data, pages }
}

/**
 * Merges the newest page of a thread, fetched again, into what is loaded. When the two do
 * not touch, because more than a page was missed, only the fresh page remains, with the
 * messages that are still on their way.
 */
export function mergeNewest(data: Pages<Message>, fresh: Page<Message>): Pages<Message> {
  const known = new Set(data.pages[0]?.items.map((m) => m.id))
  const touches = fresh.next === undefined || fresh.items.some((m) => known.has(m.id))
  if (touches) return mergeMessages(data, fresh.items)
  const pending = data.pages[0]?.items.filter(isLocal) ?? []
  return mergeMessages({ pages: [fresh], pageParams: [undefined] }, pending)
}

/** A message that only this browser knows so far. */
export function isLocal(m: Message): boolean {
  return m.status === 'sending' || m.status === 'unsent'
}

/** A page fetched again, with what the old one held of this browser's own unsent messages. */
export function withLocal(page: Page<Message>, old: Page<Message> | undefined): Page<Message> {
  const kept = old?.items.filter((m) => isLocal(m) && !page.items.some((x) => same(x, m))) ?? []
  return kept.length > 0 ? { ...page, items: [...page.items, ...kept] } : page
}

/** All loaded messages, oldest first, each once. */
export function threadOf(data: { pages: Page<Message>[] } | undefined): Message[] {
  if (!data) return []
  const seen = new Set<string>()
  return [...data.pages]
    .reverse()
    .flatMap((p) => p.items)
    .filter((m) => !seen.has(m.id) && seen.add(m.id))
}
