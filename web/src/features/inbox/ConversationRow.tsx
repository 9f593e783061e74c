import { memo } from 'react'
import type { Conversation } from '../../api/types'
import { ChannelIcon } from '../../ui/ChannelIcon'
import { Person } from '../../ui/Person'
import { NeedsYouTag, OwnerTag, Tag } from '../../ui/Tag'
import s from './inbox.module.css'
import { previewPrefix } from './voices'

interface RowProps {
  conversation: Conversation
  selected: boolean
  position: number
  /** Rows in all; -1 while more may follow. */
  size: number
  age: string
  myName: string
  onOpen: (id: string) => void
}

/** One row of the list: plain elements, because thousands of them pass by. */
export const ConversationRow = memo(function ConversationRow(props: RowProps) {
  const { conversation: c, selected, position, size, age, myName, onOpen } = props
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list box handles the keys for its options
    <div
      id={`row-${c.id}`}
      role="option"
      tabIndex={-1}
      aria-selected={selected}
      aria-posinset={position}
      aria-setsize={size}
      className={`${s.item} ${c.unread > 0 ? s.unread : ''}`}
      onClick={() => onOpen(c.id)}
    >
      <Person name={c.contact.name} size={34} />
      <div className={s.itemText}>
        <div className={s.top}>
          <ChannelIcon kind={c.channel.kind} />
          <span className={s.name}>{c.contact.name}</span>
          <span className={s.time}>{age}</span>
        </div>
        <div className={s.preview}>
          {previewPrefix(c, myName)}
          {c.preview || c.subject}
        </div>
        <div className={s.meta}>
          {c.handoff ? <NeedsYouTag /> : <OwnerTag owner={c.owner} />}
          {c.state === 'resolved' && <Tag tone="plain">Resolved</Tag>}
          <span className={s.company}>{c.contact.company}</span>
          {c.unread > 0 && (
            <span className={s.dot}>
              {c.unread > 99 ? '99+' : c.unread}
              <span className="visually-hidden"> unread</span>
            </span>
          )}
        </div>
      </div>
    </div>
  )
})
