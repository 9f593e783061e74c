import { Button } from '@mantine/core'
import { IconArrowDown } from '@tabler/icons-react'
import { useInfiniteQuery } from '@tanstack/react-query'
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react'
import { messagesQuery } from '../../api/queries'
import type { Conversation, Message } from '../../api/types'
import { threadOf } from '../../realtime/merge'
import { type Typist, useTypists } from '../../realtime/presence'
import { clock } from '../../ui/format'
import { EmptyState, ErrorState, SkeletonRows } from '../../ui/states'
import { MessageView } from './MessageView'
import { useSend } from './send'
import s from './thread.module.css'
import { rowsOf } from './voices'

/** Nearer than this to the end, new messages scroll into view by themselves. Pixels. */
const nearEnd = 80

export function Thread({ conversation: c }: { conversation: Conversation }) {
  const thread = useInfiniteQuery(messagesQuery(c.id))
  const { resend, discard } = useSend()
  const messages = useMemo(() => threadOf(thread.data), [thread.data])
  const rows = useMemo(() => rowsOf(messages), [messages])
  const typists = useTypists(c.id)
  const { box, onScroll, missed, toEnd } = useStickyEnd(messages, typists.length)

  if (thread.isPending) {
    return (
      <div className={s.thread}>
        <SkeletonRows count={4} height={88} face={false} />
      </div>
    )
  }
  if (thread.isError && messages.length === 0) {
    return (
      <ErrorState
        what="The messages could not be loaded."
        error={thread.error}
        retry={() => void thread.refetch()}
      />
    )
  }
  return (
    <div className={s.frame}>
      <div ref={box} className={s.thread} role="log" aria-label="Messages" tabIndex={0} onScroll={onScroll}>
        {thread.hasNextPage && (
          <Button
            variant="default"
            className={s.older}
            loading={thread.isFetchingNextPage}
            onClick={() => void thread.fetchNextPage()}
          >
            Load older messages
          </Button>
        )}
        {rows.length === 0 && <EmptyState>No messages yet.</EmptyState>}
        {rows.map((row) => {
          if (row.type === 'day') {
            return (
              <div key={row.key} className={s.day}>
                {row.label}
              </div>
            )
          }
          if (row.type === 'event') {
            return (
              <div key={row.key} className={s.event}>
                {row.message.text.replace(/\.$/, '')} <span>· {clock(row.message.created_at)}</span>
              </div>
            )
          }
          return <MessageView key={row.key} row={row} onRetry={resend} onDiscard={discard} />
        })}
        <TypingLine typists={typists} contactName={c.contact.name} />
      </div>
      {missed && (
        <Button
          className={s.jump}
          variant="default"
          leftSection={<IconArrowDown size={14} aria-hidden />}
          onClick={toEnd}
        >
          New messages
        </Button>
      )}
    </div>
  )
}

function sentence(t: Typist, contactName: string): string {
  if (t.kind === 'contact') return `${contactName} is writing`
  return t.kind === 'human' ? `${t.name} is replying` : `${t.name} is drafting`
}

function TypingLine({ typists, contactName }: { typists: readonly Typist[]; contactName: string }) {
  return (
    <div className={s.typing} aria-live="polite">
      {typists.map((t) => (
        <div
          key={`${t.kind} ${t.name}`}
          className={t.kind === 'contact' ? s.typingIn : s.typingOut}
          data-kind={t.kind}
        >
          <span className={s.dots} aria-hidden>
            <i />
            <i />
            <i />
          </span>
          {sentence(t, contactName)}
        </div>
      ))}
    </div>
  )
}

/**
 * Keeps the end in view while it is in view, keeps the place when older messages come in
 * above, and tells when something new lies below.
 */
function useStickyEnd(messages: Message[], typing: number) {
  const firstId = messages[0]?.id
  const lastId = messages[messages.length - 1]?.id
  const box = useRef<HTMLDivElement>(null)
  const atEnd = useRef(true)
  const before = useRef<{ first?: string; last?: string; height: number }>({ height: 0 })
  const [missed, setMissed] = useState(false)

  const toEnd = () => {
    const el = box.current
    if (el) el.scrollTop = el.scrollHeight
    setMissed(false)
  }

  // biome-ignore lint/correctness/useExhaustiveDependencies: states and typing change the height too
  useLayoutEffect(() => {
    const el = box.current
    if (!el) return
    const was = before.current
    if (atEnd.current) {
      el.scrollTop = el.scrollHeight
    } else if (was.first && firstId !== was.first && lastId === was.last) {
      el.scrollTop += el.scrollHeight - was.height
    } else if (was.last && lastId !== was.last) {
      if (lastId?.startsWith('local ')) toEnd()
      else setMissed(true)
    }
    before.current = { first: firstId, last: lastId, height: el.scrollHeight }
  }, [messages, typing])

  // The composer grows and the handoff card comes: the end must stay in view all the same.
  const hasBox = firstId !== undefined
  useEffect(() => {
    const el = box.current
    if (!el || !hasBox) return
    const watcher = new ResizeObserver(() => {
      if (atEnd.current) el.scrollTop = el.scrollHeight
    })
    watcher.observe(el)
    return () => watcher.disconnect()
  }, [hasBox])

  const onScroll = () => {
    const el = box.current
    if (!el) return
    atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < nearEnd
    if (atEnd.current) setMissed(false)
  }
  return { box, onScroll, missed, toEnd }
}
