import type { InfiniteData, QueryClient } from '@tanstack/react-query'
import { conversationQuery, fetchMessages, keys } from '../api/queries'
import type { Conversation, ConversationView, LiveEvent, Message, Page } from '../api/types'
import { mergeNewest, patchList } from './merge'
import { presence } from './presence'

/** What a batch of facts makes stale. */
export interface Touched {
  conversations: Set<string>
  messages: Set<string>
  leads: Set<string>
  handoffs: Set<string>
  /** Any column of any board. */
  boards: boolean
  members: boolean
}

export function untouched(): Touched {
  return {
    conversations: new Set(),
    messages: new Set(),
    leads: new Set(),
    handoffs: new Set(),
    boards: false,
    members: false,
  }
}

/** Notes what one fact makes stale. Doing it twice for the same fact changes nothing. */
export function touch(into: Touched, fact: LiveEvent): void {
  const { noun, verb, record_id, conversation_id, lead_id } = fact
  if (conversation_id) into.conversations.add(conversation_id)
  switch (noun) {
    case 'message':
      if (conversation_id) into.messages.add(conversation_id)
      break
    case 'conversation':
      into.conversations.add(conversation_id ?? record_id)
      // Reading changes a number, not the thread; everything else is an event line in it.
      if (verb !== 'read') into.messages.add(conversation_id ?? record_id)
      into.boards = verb !== 'read' || into.boards
      break
    case 'handoff':
      into.handoffs.add(record_id)
      if (conversation_id) into.messages.add(conversation_id)
      break
    case 'lead':
      into.leads.add(lead_id ?? record_id)
      into.boards = true
      if (conversation_id) into.messages.add(conversation_id)
      break
    case 'contact':
      into.boards = true
      break
    case 'member':
      into.members = true
      break
  }
}

/** Facts come in bursts; one refetch a record per burst is enough. Milliseconds. */
const gather = 60
/** A busy hub writes all the time; boards and counts are not fetched more often than this. Milliseconds. */
const summaryPause = 1_000
const recentFacts = 2_000

/** Applies the live stream to the query cache. */
export class Applier {
  private touched = untouched()
  private timer?: ReturnType<typeof setTimeout>
  private readonly later = new Map<string, ReturnType<typeof setTimeout>>()
  private readonly seen = new Set<string>()

  constructor(
    private readonly cache: QueryClient,
    private readonly myId: string,
  ) {}

  /** Takes one fact. Delivery is at least once, so a fact that was seen is dropped. */
  fact(event: LiveEvent): void {
    if (this.seen.has(event.id)) return
    this.seen.add(event.id)
    if (this.seen.size > recentFacts) {
      const [oldest] = this.seen
      if (oldest) this.seen.delete(oldest)
    }
    touch(this.touched, event)
    if (event.noun === 'message' && event.conversation_id && event.actor) {
      const who = event.actor.kind === 'contact' ? 'contact' : (event.actor.id ?? '')
      presence.stop(event.conversation_id, who)
    }
    this.timer ??= setTimeout(() => void this.flush(), gather)
  }

  /** Everything may have changed. */
  resync(): void {
    void this.cache.invalidateQueries({ predicate: (q) => q.queryKey[0] !== 'me' })
  }

  close(): void {
    clearTimeout(this.timer)
    for (const timer of this.later.values()) clearTimeout(timer)
  }

  /** Applies what was gathered; resolves when the cache is up to date. */
  async flush(): Promise<void> {
    clearTimeout(this.timer)
    this.timer = undefined
    const now = this.touched
    this.touched = untouched()
    if (now.boards) {
      this.refreshSoon('board-leads')
      this.refreshSoon(keys.boards[0])
    }
    if (now.members) void this.cache.invalidateQueries({ queryKey: keys.members })
    for (const id of now.leads) void this.cache.invalidateQueries({ queryKey: keys.lead(id) })
    for (const id of now.handoffs) void this.cache.invalidateQueries({ queryKey: keys.handoff(id) })
    if (now.conversations.size > 0) this.refreshSoon(keys.counts[0])
    await Promise.all([
      ...[...now.conversations].map((id) => this.refreshConversation(id)),
      ...[...now.messages].map((id) => this.refreshMessages(id)),
    ])
  }

  /** Refetches a summary once the pause is over, however many facts ask for it. */
  private refreshSoon(name: string): void {
    if (this.later.has(name)) return
    const run = () => {
      this.later.delete(name)
      void this.cache.invalidateQueries({ queryKey: [name] }, { cancelRefetch: false })
    }
    this.later.set(name, setTimeout(run, summaryPause))
  }

  /** Fetches one conversation and puts it into every loaded list. */
  private async refreshConversation(id: string): Promise<void> {
    const loaded = this.cache.getQueriesData({ queryKey: keys.lists }).length > 0
    const open = this.cache.getQueryData(keys.conversation(id)) !== undefined
    if (!loaded && !open) return
    try {
      const fresh = await this.cache.fetchQuery({ ...conversationQuery(id), staleTime: 0, retry: 1 })
      putConversation(this.cache, fresh, this.myId)
    } catch {
      // Not ours to see any more, or the server is away: the lists tell by themselves.
      void this.cache.invalidateQueries({ queryKey: keys.lists })
    }
  }

  /** Fetches the newest messages of a thread that is open, and only marks the others stale. */
  private async refreshMessages(id: string): Promise<void> {
    const key = keys.messages(id)
    const query = this.cache.getQueryCache().find({ queryKey: key })
    if (!query?.state.data) {
      // The first load is under way and may have missed this fact.
      if (query) void this.cache.invalidateQueries({ queryKey: key })
      return
    }
    if (query.getObserversCount() === 0) {
      void this.cache.invalidateQueries({ queryKey: key })
      return
    }
    try {
      const fresh = await fetchMessages(id)
      this.cache.setQueryData<InfiniteData<Page<Message>, string | undefined>>(
        key,
        (data) => data && mergeNewest(data, fresh),
      )
    } catch {
      void this.cache.invalidateQueries({ queryKey: key })
    }
  }
}

const views: ConversationView[] = ['mine', 'needs_you', 'ai', 'unowned', 'all']

/** Puts the newest state of a conversation everywhere it is shown. */
export function putConversation(cache: QueryClient, fresh: Conversation, myId: string): void {
  const known = cache.getQueryData<Conversation>(keys.conversation(fresh.id))
  // An answer that was overtaken by a newer one must not turn the page back.
  if (known && known.fence > fresh.fence) return
  cache.setQueryData(keys.conversation(fresh.id), fresh)
  for (const view of views) {
    cache.setQueryData<InfiniteData<Page<Conversation>, string | undefined>>(
      keys.list(view),
      (data) => data && patchList(data, view, fresh, myId),
    )
  }
}
