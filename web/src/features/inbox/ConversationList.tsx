import { SegmentedControl } from '@mantine/core'
import { IconChecks } from '@tabler/icons-react'
import { useInfiniteQuery, useQuery } from '@tanstack/react-query'
import { useVirtualizer } from '@tanstack/react-virtual'
import { type KeyboardEvent, type Ref, useEffect, useImperativeHandle, useRef } from 'react'
import { countsQuery, listQuery } from '../../api/queries'
import { useMe } from '../../api/session'
import type { Conversation, ConversationView } from '../../api/types'
import { ago } from '../../ui/format'
import { useNow } from '../../ui/now'
import { PageBar } from '../../ui/PageBar'
import { EmptyState, ErrorState, SkeletonRows } from '../../ui/states'
import { Tag } from '../../ui/Tag'
import { ConversationRow } from './ConversationRow'
import s from './inbox.module.css'

const tabs: { value: ConversationView; label: string }[] = [
  { value: 'mine', label: 'Mine' },
  { value: 'needs_you', label: 'Needs you' },
  { value: 'ai', label: 'AI active' },
  { value: 'all', label: 'All' },
]

const emptySentences: Record<ConversationView, string> = {
  mine: 'Conversations that you answer appear here. Take one over, or accept a handoff.',
  needs_you: 'Nobody waits for you. When an AI member asks for a person, the conversation appears here.',
  ai: 'Conversations that an AI member answers appear here.',
  unowned: 'Conversations that nobody answers yet appear here.',
  all: 'No conversations yet. The first message from a channel appears here.',
}

const rowHeight = 72

export interface ListHandle {
  /** Opens the conversation so many rows below (above when negative) the open one. */
  move: (by: number) => void
  openFirst: () => void
  focus: () => void
}

interface ListProps {
  ref: Ref<ListHandle>
  view: ConversationView
  selectedId?: string
  onView: (view: ConversationView) => void
  onOpen: (id: string) => void
}

export function ConversationList({ ref, view, selectedId, onView, onOpen }: ListProps) {
  const me = useMe()
  const now = useNow()
  const scroller = useRef<HTMLDivElement>(null)
  const { data: counts } = useQuery(countsQuery)
  const list = useInfiniteQuery(listQuery(view))
  const items: Conversation[] = list.data?.pages.flatMap((p) => p.items) ?? []

  const virtual = useVirtualizer({
    count: items.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowHeight,
    getItemKey: (i) => items[i]?.id ?? i,
    overscan: 6,
  })
  const rows = virtual.getVirtualItems()

  const last = rows[rows.length - 1]?.index ?? 0
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = list
  useEffect(() => {
    if (hasNextPage && !isFetchingNextPage && last >= items.length - 15) void fetchNextPage()
  }, [hasNextPage, isFetchingNextPage, fetchNextPage, last, items.length])

  const at = items.findIndex((c) => c.id === selectedId)
  const move = (by: number) => {
    const to = at < 0 ? 0 : Math.max(0, Math.min(items.length - 1, at + by))
    const target = items[to]
    if (!target) return
    onOpen(target.id)
    virtual.scrollToIndex(to)
  }
  useImperativeHandle(ref, () => ({
    move,
    openFirst: () => {
      const target = items[Math.max(at, 0)]
      if (target) onOpen(target.id)
    },
    focus: () => scroller.current?.focus(),
  }))

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'ArrowDown') move(1)
    else if (event.key === 'ArrowUp') move(-1)
    else if (event.key === 'Home' && items[0]) onOpen(items[0].id)
    else return
    event.preventDefault()
  }

  const total = counts?.[view]
  return (
    <>
      <PageBar>
        <h1>{view === 'needs_you' ? 'Needs you' : 'Inbox'}</h1>
        {total !== undefined && (
          <Tag tone="plain" large>
            {total >= 1000 ? '1,000+' : total}
            <span className="visually-hidden"> conversations</span>
          </Tag>
        )}
      </PageBar>
      <div className={s.tabs}>
        <SegmentedControl
          fullWidth
          size="xs"
          aria-label="Which conversations"
          data={tabs}
          value={view}
          onChange={(v) => onView(v as ConversationView)}
        />
      </div>
      {list.isPending ? (
        <SkeletonRows count={9} height={rowHeight} />
      ) : list.isError && items.length === 0 ? (
        <ErrorState
          what="The list could not be loaded."
          error={list.error}
          retry={() => void list.refetch()}
        />
      ) : items.length === 0 ? (
        <EmptyState
          icon={<IconChecks size={22} color="var(--t-3)" aria-hidden />}
          action={
            view !== 'all' && (
              <button type="button" className={s.textButton} onClick={() => onView('all')}>
                Show all conversations
              </button>
            )
          }
        >
          {emptySentences[view]}
        </EmptyState>
      ) : (
        <div
          ref={scroller}
          className={s.scroll}
          role="listbox"
          aria-label="Conversations"
          aria-activedescendant={at >= 0 ? `row-${selectedId}` : undefined}
          tabIndex={0}
          onKeyDown={onKeyDown}
        >
          <div role="presentation" style={{ height: virtual.getTotalSize(), position: 'relative' }}>
            {rows.map((row) => {
              const c = items[row.index]
              return (
                c && (
                  <div
                    key={row.key}
                    role="presentation"
                    className={s.row}
                    style={{ transform: `translateY(${row.start}px)`, height: rowHeight }}
                  >
                    <ConversationRow
                      conversation={c}
                      selected={c.id === selectedId}
                      position={row.index + 1}
                      size={hasNextPage ? -1 : items.length}
                      age={ago(c.last_message_at ?? c.created_at, now)}
                      myName={me.member.name}
                      onOpen={onOpen}
                    />
                  </div>
                )
              )
            })}
          </div>
        </div>
      )}
    </>
  )
}
