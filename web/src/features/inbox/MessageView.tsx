import {
  IconAlertTriangle,
  IconBan,
  IconCheck,
  IconChecks,
  IconClock,
  IconHelpCircle,
  IconLock,
  IconSparkles,
} from '@tabler/icons-react'
import { memo } from 'react'
import type { Message } from '../../api/types'
import { clock, full } from '../../ui/format'
import s from './thread.module.css'
import type { ThreadItem, Voice } from './voices'

type Row = Extract<ThreadItem, { type: 'message' }>

interface MessageProps {
  row: Row
  onRetry: (m: Message) => void
  onDiscard: (m: Message) => void
}

const spoken: Record<Exclude<Voice, 'event'>, string> = {
  contact: 'Message from',
  human: 'Reply from',
  ai: 'AI reply from',
  note: 'Internal note from',
}

/** One message in its voice: side, colour, icon and words all say who speaks. */
export const MessageView = memo(function MessageView({ row, onRetry, onDiscard }: MessageProps) {
  const { message: m, voice } = row
  const out = voice === 'human' || voice === 'ai'
  return (
    <article
      className={`${s.message} ${s[voice]} ${out ? s.out : ''} ${row.named ? s.named : ''}`}
      aria-label={`${spoken[voice]} ${m.sender.name}`}
      data-voice={voice}
      data-status={m.status}
    >
      {row.named && <Speaker message={m} voice={voice} />}
      <div className={s.bubble}>{m.text}</div>
      {row.footed && (
        <div className={s.foot}>
          <time dateTime={m.created_at} title={full(m.created_at)}>
            {clock(m.created_at)}
          </time>
          {out && <Delivery message={m} />}
          {m.ai && <Reasons ai={m.ai} />}
        </div>
      )}
      {m.status === 'unsent' && (
        <div className={s.unsent}>
          <span>
            Not {m.kind === 'note' ? 'saved' : 'sent'}. {m.error}
          </span>
          <button type="button" onClick={() => onRetry(m)}>
            Retry
          </button>
          <button type="button" onClick={() => onDiscard(m)}>
            Remove
          </button>
        </div>
      )}
    </article>
  )
})

function Speaker({ message: m, voice }: { message: Message; voice: Row['voice'] }) {
  if (voice === 'ai') {
    return (
      <div className={s.speaker}>
        <IconSparkles size={12} aria-hidden />
        {m.sender.name}
        {m.sender.kind !== 'system' && ' · AI agent'}
      </div>
    )
  }
  if (voice === 'note') {
    return (
      <div className={s.speaker}>
        <IconLock size={12} aria-hidden />
        {m.sender.name} · internal note, not sent to the contact
      </div>
    )
  }
  return <div className={s.speaker}>{m.sender.name}</div>
}

const states: Record<
  string,
  { icon: typeof IconCheck; label: string; tone?: 'accent' | 'bad' | 'warn'; words?: boolean }
> = {
  sending: { icon: IconClock, label: 'Sending' },
  queued: { icon: IconClock, label: 'On its way' },
  dispatching: { icon: IconClock, label: 'On its way' },
  retry_wait: { icon: IconClock, label: 'Waiting to be tried again', tone: 'warn', words: true },
  sent: { icon: IconCheck, label: 'Sent' },
  delivered: { icon: IconChecks, label: 'Delivered' },
  read: { icon: IconChecks, label: 'Read', tone: 'accent' },
  failed: { icon: IconAlertTriangle, label: 'Not delivered', tone: 'bad', words: true },
  unknown: { icon: IconHelpCircle, label: 'It is not known whether it arrived', tone: 'warn', words: true },
  cancelled: { icon: IconBan, label: 'Cancelled, not sent to the contact', words: true },
}

function Delivery({ message: m }: { message: Message }) {
  const state = states[m.status]
  if (!state) return null
  const Icon = state.icon
  const label = m.error ? `${state.label}: ${m.error}` : state.label
  return (
    <span className={s.state} data-tone={state.tone} title={label}>
      <Icon size={13} aria-hidden />
      <span className={state.words ? undefined : 'visually-hidden'}>{label}</span>
    </span>
  )
}

/** 0.91 is 91. */
export function percent(confidence: number): number {
  return Math.round(confidence * 100)
}

const web = /^https?:\/\//

/** Why an AI member said it: how sure it was, which documents it used, which model wrote it. */
function Reasons({ ai }: { ai: NonNullable<Message['ai']> }) {
  const sources = new Map((ai.sources ?? []).map((source) => [source.title, source]))
  return (
    <>
      {Boolean(ai.confidence) && <span>· {percent(ai.confidence ?? 0)}% confident</span>}
      {sources.size > 0 && (
        <span>
          ·{' '}
          {[...sources.values()].map((source, i) => (
            <span key={source.title}>
              {i > 0 && ', '}
              {source.url && web.test(source.url) ? (
                <a href={source.url} target="_blank" rel="noopener noreferrer">
                  {source.title}
                </a>
              ) : (
                source.title
              )}
            </span>
          ))}
        </span>
      )}
      {ai.model && <span>· {ai.model}</span>}
    </>
  )
}
