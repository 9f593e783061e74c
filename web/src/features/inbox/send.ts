import { type InfiniteData, type QueryClient, useMutation, useQueryClient } from '@tanstack/react-query'
import { answer, api } from '../../api/client'
import { newKey } from '../../api/keys'
import { keys } from '../../api/queries'
import { useMe } from '../../api/session'
import type { Conversation, Message, Page } from '../../api/types'
import { mergeMessages } from '../../realtime/merge'
import { toastFailure } from '../../ui/toast'

export interface Outgoing {
  conversationId: string
  kind: 'message' | 'note'
  text: string
  /** Idempotency key: a retry carries the same one, so nothing is written twice. */
  key: string
  /** Our ownership, when we hold it: a stale one must not write. */
  fence?: number
}

type Thread = InfiniteData<Page<Message>, string | undefined>

export function putMessage(cache: QueryClient, m: Message): void {
  cache.setQueryData<Thread>(keys.messages(m.conversation_id), (data) => data && mergeMessages(data, [m]))
}

export function dropMessage(cache: QueryClient, conversationId: string, id: string): void {
  cache.setQueryData<Thread>(
    keys.messages(conversationId),
    (data) =>
      data && {
        ...data,
        pages: data.pages.map((p) => ({ ...p, items: p.items.filter((m) => m.id !== id) })),
      },
  )
}

/** Sends replies and notes. The message shows at once; when it fails it stays, marked, with Retry. */
export function useSend() {
  const cache = useQueryClient()
  const me = useMe()

  const local = (out: Outgoing, status: 'sending' | 'unsent', error?: string): Message => ({
    id: `local ${out.key}`,
    client_key: out.key,
    conversation_id: out.conversationId,
    seq: Number.POSITIVE_INFINITY, // after everything that the server has numbered
    direction: 'outbound',
    kind: out.kind,
    sender: { kind: 'human', id: me.member.id, name: me.member.name },
    text: out.text,
    html: '',
    attachments: [],
    status,
    error,
    created_at: new Date().toISOString(),
  })

  const mutation = useMutation({
    mutationFn: (out: Outgoing) =>
      answer(
        api.POST('/conversations/{id}/messages', {
          params: { path: { id: out.conversationId }, header: { 'Idempotency-Key': out.key } },
          body: { kind: out.kind, text: out.text, fence: out.fence },
        }),
      ),
    onMutate: (out) => putMessage(cache, local(out, 'sending')),
    onSuccess: (message, out) => {
      putMessage(cache, { ...message, client_key: out.key })
      // A reply may have taken the conversation over; the live stream says so too, a little later.
      void cache.invalidateQueries({ queryKey: keys.conversation(out.conversationId) })
    },
    onError: (error, out) => {
      putMessage(cache, local(out, 'unsent', error.message))
      void cache.invalidateQueries({ queryKey: keys.conversation(out.conversationId) })
      const what = out.kind === 'note' ? 'The note was not saved.' : 'The message was not sent.'
      toastFailure(what, error, () => retry(out))
    },
  })

  const retry = (out: Outgoing) => mutation.mutate(out)

  return {
    send: (c: Conversation, kind: Outgoing['kind'], text: string) =>
      mutation.mutate({
        conversationId: c.id,
        kind,
        text,
        key: newKey(),
        fence: kind === 'message' && c.owner?.id === me.member.id ? c.fence : undefined,
      }),
    /** Sends a message again that stayed behind as "unsent". */
    resend: (m: Message) =>
      retry({
        conversationId: m.conversation_id,
        kind: m.kind === 'note' ? 'note' : 'message',
        text: m.text,
        key: m.client_key ?? newKey(),
      }),
    discard: (m: Message) => dropMessage(cache, m.conversation_id, m.id),
  }
}
