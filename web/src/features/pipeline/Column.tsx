import { useMutation } from '@tanstack/react-query'
import { useNavigate } from '@tanstack/react-router'
import { useVirtualizer } from '@tanstack/react-virtual'
import { memo, useRef } from 'react'
import { answer, api } from '../../api/client'
import type { Lead, Stage } from '../../api/types'
import { ago, money } from '../../ui/format'
import { Person } from '../../ui/Person'
import { SkeletonRows } from '../../ui/states'
import { toast, toastFailure } from '../../ui/toast'
import { LeadMarksIcons } from '../lead/LeadTags'
import s from './board.module.css'

const cardHeight = 88
const gap = 7

interface ColumnProps {
  stage: Stage
  color: string
  leads: Lead[]
  loading: boolean
  now: number
}

/** One stage: how many leads, what they are worth, and the cards. */
export function Column({ stage, color, leads, loading, now }: ColumnProps) {
  const scroller = useRef<HTMLDivElement>(null)
  const openLead = useOpenLead()
  const virtual = useVirtualizer({
    count: leads.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => cardHeight + gap,
    getItemKey: (i) => leads[i]?.id ?? i,
    overscan: 4,
  })
  const count = Math.max(stage.lead_count ?? 0, leads.length)
  return (
    <section className={s.column} aria-label={stage.name} data-stage={stage.id}>
      <header className={s.head}>
        <span className={s.mark} style={{ background: color }} />
        <h2>{stage.name}</h2>
        <small>{count >= 1000 ? '1,000+' : count}</small>
        <small>{worth(leads)}</small>
      </header>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset is for form fields */}
      <div ref={scroller} className={s.cards} tabIndex={0} role="group" aria-label={`${stage.name} leads`}>
        {loading ? (
          <SkeletonRows count={3} height={cardHeight} face={false} />
        ) : leads.length === 0 ? (
          <p className={s.none}>No leads here.</p>
        ) : (
          <div style={{ height: virtual.getTotalSize(), position: 'relative' }}>
            {virtual.getVirtualItems().map((item) => {
              const lead = leads[item.index]
              return (
                lead && (
                  <div
                    key={item.key}
                    className={s.slot}
                    style={{ transform: `translateY(${item.start}px)`, height: cardHeight }}
                  >
                    <Card
                      lead={lead}
                      age={ago(lead.stage_changed_at ?? lead.updated_at, now)}
                      onOpen={openLead}
                    />
                  </div>
                )
              )
            })}
          </div>
        )}
      </div>
    </section>
  )
}

/** The sum of the loaded leads, only when they share one currency. */
export function worth(leads: Lead[]): string {
  let sum = 0
  let currency: string | undefined
  for (const { value } of leads) {
    if (!value) continue
    currency ??= value.currency
    if (currency !== value.currency) return ''
    sum += value.minor
  }
  return currency && sum > 0 ? money(sum, currency, true) : ''
}

interface CardProps {
  lead: Lead
  age: string
  onOpen: (leadId: string) => void
}

const Card = memo(function Card({ lead, age, onOpen }: CardProps) {
  const owner = lead.assignee
  const who = lead.contact.name || lead.title
  return (
    <button type="button" className={s.card} data-lead={lead.id} onClick={() => onOpen(lead.id)}>
      <span className={s.who}>{who}</span>
      <span className={s.what}>
        {[lead.contact.company, lead.title].filter((x) => x && x !== who).join(' · ')}
      </span>
      <span className={s.line}>
        <LeadMarksIcons temperature={lead.temperature} priority={lead.priority} />
        {lead.value && <b>{money(lead.value.minor, lead.value.currency, true)}</b>}
        <span className={s.age}>{age}</span>
        <span className={s.owner}>
          <Person name={owner?.name ?? ''} ai={owner ? owner.kind !== 'human' : false} size={22} />
          <span className="visually-hidden">
            {owner ? `${owner.kind === 'human' ? '' : 'AI agent '}${owner.name}` : 'No owner'}
          </span>
        </span>
      </span>
    </button>
  )
})

/** Opens the newest conversation of a lead in the inbox. */
function useOpenLead() {
  const navigate = useNavigate()
  const open = useMutation({
    mutationFn: (leadId: string) =>
      answer(api.GET('/conversations', { params: { query: { lead_id: leadId, limit: 1 } } })),
    onSuccess: (page) => {
      const conversation = page.items[0]
      if (!conversation) {
        toast('This lead has no conversation yet.')
        return
      }
      void navigate({
        to: '/inbox/{-$conversationId}',
        params: { conversationId: conversation.id },
        search: {},
      })
    },
    onError: (error) => toastFailure('The conversation could not be opened.', error),
  })
  return open.mutate
}
