import { useMutation, useQueryClient } from '@tanstack/react-query'
import { answer, api } from '../../api/client'
import { asApiError } from '../../api/errors'
import { keys } from '../../api/queries'
import { useMe } from '../../api/session'
import type { Conversation, Handoff } from '../../api/types'
import { putConversation } from '../../realtime/apply'
import { toast, toastFailure } from '../../ui/toast'

/** The changes of ownership and state that a conversation's bar offers. */
export function useConversationActions(c: Conversation) {
  const cache = useQueryClient()
  const me = useMe()
  const params = { path: { id: c.id } }

  const settle = (what: string) => ({
    onSuccess: (fresh: Conversation) => putConversation(cache, fresh, me.member.id),
    onError: (error: unknown) => {
      toastFailure(what, error)
      void cache.invalidateQueries({ queryKey: keys.conversation(c.id) })
    },
  })

  const takeOver = useMutation({
    mutationFn: (reason?: string) =>
      answer(
        c.owner
          ? api.POST('/conversations/{id}/takeover', { params, body: reason ? { reason } : {} })
          : api.POST('/conversations/{id}/claim', { params, body: {} }),
      ),
    ...settle('You did not get the conversation.'),
  })
  const handToAI = useMutation({
    mutationFn: () => answer(api.POST('/conversations/{id}/hand-to-ai', { params, body: {} })),
    ...settle('The conversation was not handed to an AI member.'),
  })
  const resolve = useMutation({
    mutationFn: () => answer(api.POST('/conversations/{id}/resolve', { params, body: {} })),
    ...settle('The conversation was not resolved.'),
  })
  const reopen = useMutation({
    mutationFn: () => answer(api.POST('/conversations/{id}/reopen', { params, body: {} })),
    ...settle('The conversation was not reopened.'),
  })
  return { takeOver, handToAI, resolve, reopen }
}

/** Accept and decline. A handoff that somebody else decided first shows its newest state. */
export function useHandoffDecision(conversationId: string, handoffId: string) {
  const cache = useQueryClient()
  const params = { path: { id: handoffId } }
  const refresh = () => {
    void cache.invalidateQueries({ queryKey: keys.conversation(conversationId) })
    void cache.invalidateQueries({ queryKey: keys.handoff(handoffId) })
    void cache.invalidateQueries({ queryKey: keys.lists })
    void cache.invalidateQueries({ queryKey: keys.counts })
  }
  const done = (said: string) => (fresh: Handoff) => {
    cache.setQueryData(keys.handoff(handoffId), fresh)
    toast(said)
    refresh()
  }
  const failed = (what: string) => (error: unknown) => {
    const owner = asApiError(error).owner
    toastFailure(owner ? `${owner.name} was first.` : what, error)
    refresh()
  }
  const accept = useMutation({
    mutationFn: () => answer(api.POST('/handoffs/{id}/accept', { params, body: {} })),
    onSuccess: done('Handoff accepted. The conversation is yours.'),
    onError: failed('The handoff was not accepted.'),
  })
  const decline = useMutation({
    mutationFn: (reason: string) => answer(api.POST('/handoffs/{id}/reject', { params, body: { reason } })),
    onSuccess: done('Handoff declined.'),
    onError: failed('The handoff was not declined.'),
  })
  return { accept, decline }
}
