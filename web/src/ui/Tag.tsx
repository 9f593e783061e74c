import { IconArrowsExchange, IconSparkles } from '@tabler/icons-react'
import type { ReactNode } from 'react'
import s from './tag.module.css'

export type TagTone = 'ai' | 'human' | 'wait' | 'plain' | 'accent' | 'bad'

/** A word on a tinted ground. It always carries text, so colour is never the only cue. */
export function Tag({ tone, large, children }: { tone: TagTone; large?: boolean; children: ReactNode }) {
  return <span className={`${s.tag} ${s[tone]} ${large ? s.large : ''}`}>{children}</span>
}

/** Amber, with the arrows icon: an AI member waits for a person here. */
export function NeedsYouTag({ large }: { large?: boolean }) {
  return (
    <Tag tone="wait" large={large}>
      <IconArrowsExchange size={11} aria-hidden />
      Needs you
    </Tag>
  )
}

/** Who owns a conversation or lead: teal for people, violet with a sparkle for AI members. */
export function OwnerTag({ owner }: { owner?: { kind: string; name: string } | null }) {
  if (!owner) return <Tag tone="plain">Unowned</Tag>
  if (owner.kind === 'human') return <Tag tone="human">{owner.name}</Tag>
  return (
    <Tag tone="ai">
      <IconSparkles size={11} aria-hidden />
      {owner.name}
    </Tag>
  )
}

/** A key of the keyboard. */
export function Kbd({ children }: { children: ReactNode }) {
  return <kbd className={s.kbd}>{children}</kbd>
}
