import { useQuery } from '@tanstack/react-query'
import { useNavigate, useParams, useSearch } from '@tanstack/react-router'
import { useCallback, useEffect, useRef } from 'react'
import { conversationQuery } from '../../api/queries'
import type { ConversationView } from '../../api/types'
import { useShortcuts } from '../../keys/registry'
import { EmptyState, ErrorState } from '../../ui/states'
import { useWide } from '../../ui/width'
import { LeadPane } from '../lead/LeadPane'
import { Conversation } from './Conversation'
import { ConversationList, type ListHandle } from './ConversationList'
import { HandoffCard } from './HandoffCard'
import s from './inbox.module.css'

/** Three panes: the list, the thread, and what is known about the lead. */
export function InboxPage() {
  const { conversationId } = useParams({ from: '/app/inbox/{-$conversationId}' })
  const { view = 'all' } = useSearch({ from: '/app/inbox/{-$conversationId}' })
  const navigate = useNavigate()
  const list = useRef<ListHandle>(null)
  const threePanes = useWide(1150)
  const twoPanes = useWide(800)

  const open = useCallback(
    (id: string | undefined, nextView: ConversationView = view) => {
      void navigate({
        to: '/inbox/{-$conversationId}',
        params: { conversationId: id },
        search: { view: nextView === 'all' ? undefined : nextView },
      })
    },
    [navigate, view],
  )

  useShortcuts({
    next: () => list.current?.move(1),
    previous: () => list.current?.move(-1),
    open: (event) => {
      if (event.target instanceof Element && event.target.closest('button, a')) return
      list.current?.openFirst()
    },
    back: () => {
      open(undefined)
      list.current?.focus()
    },
  })

  const selected = useQuery({ ...conversationQuery(conversationId ?? ''), enabled: Boolean(conversationId) })
  const name = selected.data?.contact.name
  useEffect(() => {
    document.title = conversationId && name ? `${name} · Tandem` : 'Inbox · Tandem'
  }, [conversationId, name])

  const showList = twoPanes || !conversationId
  const showThread = twoPanes || Boolean(conversationId)
  return (
    <div className={s.grid} data-pane={Boolean(conversationId)}>
      {showList && (
        <section className={s.column} aria-label="Conversation list">
          <ConversationList
            ref={list}
            view={view}
            selectedId={conversationId}
            onView={(v) => open(conversationId && twoPanes ? conversationId : undefined, v)}
            onOpen={(id) => open(id)}
          />
        </section>
      )}
      {showThread && (
        <section className={s.column} aria-label="Conversation">
          {!conversationId ? (
            <EmptyState>Choose a conversation to read and answer it here.</EmptyState>
          ) : selected.data ? (
            <Conversation
              key={conversationId}
              conversation={selected.data}
              onBack={twoPanes ? undefined : () => open(undefined)}
              hasPane={threePanes}
            />
          ) : selected.error ? (
            <ErrorState
              what="This conversation could not be loaded."
              error={selected.error}
              retry={() => void selected.refetch()}
            />
          ) : null}
        </section>
      )}
      {threePanes && conversationId && (
        <aside
          className={`${s.column} ${s.pane}`}
          aria-label="Lead details"
          tabIndex={selected.data ? 0 : undefined}
        >
          {selected.data && (
            <LeadPane conversation={selected.data}>
              {selected.data.handoff && (
                <HandoffCard
                  key={selected.data.handoff.id}
                  conversation={selected.data}
                  handoffId={selected.data.handoff.id}
                />
              )}
            </LeadPane>
          )}
        </aside>
      )}
    </div>
  )
}
