import { type InfiniteData, infiniteQueryOptions, queryOptions } from '@tanstack/react-query'
import { withLocal } from '../realtime/merge'
import { answer, api } from './client'
import type { Conversation, ConversationView, Message, Page } from './types'

const pageSize = 50

/** Keys of the cache. The live stream patches and invalidates by these. */
export const keys = {
  lists: ['conversations'] as const,
  list: (view: ConversationView) => ['conversations', view] as const,
  counts: ['conversation-counts'] as const,
  conversation: (id: string) => ['conversation', id] as const,
  messages: (id: string) => ['messages', id] as const,
  handoff: (id: string) => ['handoff', id] as const,
  lead: (id: string) => ['lead', id] as const,
  boards: ['boards'] as const,
  boardLeads: (boardId: string) => ['board-leads', boardId] as const,
  members: ['members'] as const,
}

export const listQuery = (view: ConversationView) =>
  infiniteQueryOptions({
    queryKey: keys.list(view),
    queryFn: ({ pageParam, signal }): Promise<Page<Conversation>> =>
      answer(
        api.GET('/conversations', {
          signal,
          params: { query: { view, limit: pageSize, cursor: pageParam } },
        }),
      ),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next,
  })

export const countsQuery = queryOptions({
  queryKey: keys.counts,
  queryFn: ({ signal }) => answer(api.GET('/conversations/counts', { signal })),
})

export const conversationQuery = (id: string) =>
  queryOptions({
    queryKey: keys.conversation(id),
    queryFn: ({ signal }) => answer(api.GET('/conversations/{id}', { signal, params: { path: { id } } })),
  })

/** Pages of a thread, newest page first; inside a page messages ascend by seq. */
export const messagesQuery = (id: string) =>
  infiniteQueryOptions({
    queryKey: keys.messages(id),
    queryFn: async ({ pageParam, signal, client }) => {
      const page = await fetchMessages(id, { before: pageParam, signal })
      if (pageParam !== undefined) return page
      // What this browser is still sending, or failed to send, outlives a refetch.
      const loaded = client.getQueryData<InfiniteData<Page<Message>>>(keys.messages(id))
      return withLocal(page, loaded?.pages[0])
    },
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (page) => page.next,
  })

/** One page of a thread: the newest, the one before a seq, or what came after a seq. */
export function fetchMessages(
  id: string,
  { before, after, signal }: { before?: string; after?: number; signal?: AbortSignal } = {},
): Promise<Page<Message>> {
  return answer(
    api.GET('/conversations/{id}/messages', {
      signal,
      params: {
        path: { id },
        query: { limit: pageSize, before: before === undefined ? undefined : Number(before), after },
      },
    }),
  )
}

export const handoffQuery = (id: string) =>
  queryOptions({
    queryKey: keys.handoff(id),
    queryFn: ({ signal }) => answer(api.GET('/handoffs/{id}', { signal, params: { path: { id } } })),
  })

export const leadQuery = (id: string) =>
  queryOptions({
    queryKey: keys.lead(id),
    queryFn: ({ signal }) => answer(api.GET('/leads/{id}', { signal, params: { path: { id } } })),
  })

export const boardsQuery = queryOptions({
  queryKey: keys.boards,
  queryFn: ({ signal }) => answer(api.GET('/boards', { signal, params: { query: { limit: 100 } } })),
})

/** Leads of a board for its columns: at most the newest 1,000, which is what a board can show. */
export const boardLeadsQuery = (boardId: string) =>
  queryOptions({
    queryKey: keys.boardLeads(boardId),
    queryFn: ({ signal }) =>
      answer(
        api.GET('/leads', { signal, params: { query: { filter: { board_id: boardId }, limit: 1000 } } }),
      ),
  })

export const membersQuery = queryOptions({
  queryKey: keys.members,
  queryFn: ({ signal }) => answer(api.GET('/members', { signal, params: { query: { limit: 200 } } })),
  staleTime: 5 * 60_000,
})
