import { useQuery } from '@tanstack/react-query'
import type { ReactNode } from 'react'
import { leadQuery } from '../../api/queries'
import type { Conversation } from '../../api/types'
import { channelLabel } from '../../ui/ChannelIcon'
import { full, money } from '../../ui/format'
import { Person } from '../../ui/Person'
import { ErrorState } from '../../ui/states'
import { OwnerTag, Tag } from '../../ui/Tag'
import { LeadTags } from './LeadTags'
import s from './lead.module.css'
import { Qualification } from './Qualification'

/** What is known about the contact and the lead of a conversation. `children` stand under the name. */
export function LeadPane({
  conversation: c,
  children,
}: {
  conversation: Conversation
  children?: ReactNode
}) {
  const leadId = c.lead?.id
  const lead = useQuery({ ...leadQuery(leadId ?? ''), enabled: Boolean(leadId) })
  const stage = lead.data?.stage ?? c.lead?.stage
  const value = lead.data ? lead.data.value : c.lead?.value
  return (
    <>
      <section className={s.section} aria-label="Contact">
        <div className={s.head}>
          <Person name={c.contact.name} size={40} />
          <div className={s.headText}>
            <div className={s.name}>{c.contact.name}</div>
            <div className={s.company}>{c.contact.company}</div>
          </div>
        </div>
        <div className={s.tags}>
          <LeadTags
            temperature={lead.data?.temperature ?? c.lead?.temperature}
            priority={lead.data?.priority ?? c.lead?.priority}
          />
          {stage && (
            <Tag tone="accent" large>
              {stage.name}
            </Tag>
          )}
          {value && (
            <Tag tone="plain" large>
              {money(value.minor, value.currency, true)}
            </Tag>
          )}
        </div>
      </section>
      {children && <div className={s.section}>{children}</div>}
      {lead.isError && (
        <section className={s.section} aria-label="Lead">
          <ErrorState
            what="The lead could not be loaded."
            error={lead.error}
            retry={() => void lead.refetch()}
          />
        </section>
      )}
      {leadId && !lead.isError && (
        <section className={s.section} aria-label="Qualification">
          <h3>Qualification</h3>
          <Qualification fields={lead.data?.qualification ?? undefined} loading={lead.isPending} />
        </section>
      )}
      <section className={s.section} aria-label="Details">
        <h3>Details</h3>
        <dl className={s.facts}>
          {(lead.data?.title || c.lead?.title) && (
            <Fact name="Lead">{lead.data?.title ?? c.lead?.title}</Fact>
          )}
          <Fact name="Answers">
            <OwnerTag owner={c.owner} />
          </Fact>
          {lead.data && (
            <Fact name="Lead owner">
              {lead.data.assignee ? <OwnerTag owner={lead.data.assignee} /> : 'Nobody'}
            </Fact>
          )}
          {lead.data?.source && <Fact name="Source">{lead.data.source}</Fact>}
          <Fact name="Channel">{c.channel.name || channelLabel(c.channel.kind)}</Fact>
          {c.contact.email && <Fact name="Email">{c.contact.email}</Fact>}
          {c.contact.phone && <Fact name="Phone">{c.contact.phone}</Fact>}
          <Fact name="Started">{full(c.created_at)}</Fact>
          {lead.data?.tags && lead.data.tags.length > 0 && (
            <Fact name="Tags">{lead.data.tags.join(', ')}</Fact>
          )}
        </dl>
      </section>
    </>
  )
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  )
}
