import { Button, Textarea } from '@mantine/core'
import { IconClock } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { type FormEvent, type ReactNode, useState } from 'react'
import { handoffQuery } from '../../api/queries'
import { may, useMe } from '../../api/session'
import type { Conversation, Handoff } from '../../api/types'
import { clock, duration } from '../../ui/format'
import { useNow } from '../../ui/now'
import { Bone, ErrorState, useSlow } from '../../ui/states'
import { useHandoffDecision } from './actions'
import s from './handoff.module.css'
import { reasonLabel } from './reasons'

interface HandoffProps {
  conversation: Conversation
  handoffId: string
  /** Below the thread on narrow windows: the packet is folded away at first. */
  compact?: boolean
}

/** What an AI member asks a person for: the packet, accept, and decline with a reason. */
export function HandoffCard({ conversation: c, handoffId, compact }: HandoffProps) {
  const handoff = useQuery(handoffQuery(handoffId))
  const slow = useSlow(handoff.isPending)
  const title = <h3 className={s.title}>Handoff</h3>
  if (handoff.isPending) return <Section title={title}>{slow && <Bone width="80%" />}</Section>
  if (handoff.isError) {
    return (
      <Section title={title}>
        <ErrorState
          what="The handoff could not be loaded."
          error={handoff.error}
          retry={() => void handoff.refetch()}
        />
      </Section>
    )
  }
  const h = handoff.data
  return (
    <Section title={title}>
      <p className={s.lead}>
        <b>{h.from?.name ?? 'An AI member'}</b> asks for a person: {reasonLabel(h.reason)}.
        {h.to?.name ? ` For ${h.to.name}.` : ''}
      </p>
      {compact ? (
        <details className={s.fold}>
          <summary>What to know</summary>
          <Packet handoff={h} />
        </details>
      ) : (
        <Packet handoff={h} />
      )}
      {h.state === 'requested' ? (
        <Decision conversation={c} handoff={h} />
      ) : (
        <p className={s.quiet}>
          {h.state}
          {h.decided_by ? ` by ${h.decided_by.name}` : ''}
        </p>
      )}
    </Section>
  )
}

function Section({ title, children }: { title: ReactNode; children: ReactNode }) {
  return (
    <section aria-label="Handoff">
      {title}
      {children}
    </section>
  )
}

function Packet({ handoff: h }: { handoff: Handoff }) {
  const packet = h.packet ?? {}
  return (
    <div className={s.packet}>
      {packet.summary && <p>{packet.summary}</p>}
      <Points title="Asked" points={packet.asked} />
      <Points title="Tried" points={packet.tried} />
      <Points title="Promised" points={packet.promised} />
      {packet.next_step && (
        <div>
          <h4>Suggested next step</h4>
          <p>{packet.next_step}</p>
        </div>
      )}
    </div>
  )
}

function Points({ title, points }: { title: string; points?: string[] | null }) {
  if (!points?.length) return null
  return (
    <div>
      <h4>{title}</h4>
      <ul>
        {points.map((point) => (
          <li key={point}>{point}</li>
        ))}
      </ul>
    </div>
  )
}

function Decision({ conversation: c, handoff: h }: { conversation: Conversation; handoff: Handoff }) {
  const me = useMe()
  const now = useNow()
  const { accept, decline } = useHandoffDecision(c.id, h.id)
  const [declining, setDeclining] = useState(false)
  const [reason, setReason] = useState('')
  if (!may(me, 'handoff:decide')) {
    return <p className={s.quiet}>An owner of your organization can grant “handoff:decide” to you.</p>
  }
  const submit = (event: FormEvent) => {
    event.preventDefault()
    if (reason.trim()) decline.mutate(reason.trim())
  }
  return (
    <>
      <div className={s.buttons}>
        <Button loading={accept.isPending} onClick={() => accept.mutate()}>
          Accept
        </Button>
        <Button variant="default" aria-expanded={declining} onClick={() => setDeclining(!declining)}>
          Decline
        </Button>
        <span className={s.waiting}>
          <IconClock size={12} aria-hidden />
          {`waiting ${duration(now - Date.parse(h.created_at))}${h.deadline ? `, due ${clock(h.deadline)}` : ''}`}
        </span>
      </div>
      {declining && (
        <form className={s.reason} onSubmit={submit}>
          <Textarea
            label="Why do you decline?"
            description={`${h.from?.name ?? 'The AI member'} and your team read it.`}
            size="xs"
            autosize
            minRows={2}
            maxRows={6}
            autoFocus
            value={reason}
            onChange={(event) => setReason(event.currentTarget.value)}
          />
          <Button type="submit" variant="default" disabled={!reason.trim()} loading={decline.isPending}>
            Decline the handoff
          </Button>
        </form>
      )}
    </>
  )
}
