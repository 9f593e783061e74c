import { IconLock, IconSparkles } from '@tabler/icons-react'
import type { QualificationField } from '../../api/types'
import { Bone, useSlow } from '../../ui/states'
import s from './lead.module.css'

const asked: [field: string, label: string][] = [
  ['budget', 'Budget'],
  ['authority', 'Authority'],
  ['need', 'Need'],
  ['timeline', 'Timeline'],
]

interface QualificationProps {
  fields?: Record<string, QualificationField | null>
  loading: boolean
}

/** Budget, authority, need and timeline, each with the words it rests on. */
export function Qualification({ fields, loading }: QualificationProps) {
  const slow = useSlow(loading)
  return (
    <dl className={s.grid}>
      {asked.map(([key, label]) => {
        const field = fields?.[key]
        return (
          <div key={key} className={s.cell} data-field={key} title={field ? evidence(field) : undefined}>
            <dt>
              {label}
              {field?.locked && <IconLock size={11} aria-label="Locked by a person" />}
              {field?.author?.kind === 'ai' && !field.locked && (
                <IconSparkles size={11} color="var(--v-ai)" aria-label={`Found by ${field.author.name}`} />
              )}
            </dt>
            {field ? (
              <dd>
                {field.value}
                <span className="visually-hidden">. {evidence(field)}</span>
              </dd>
            ) : loading ? (
              <dd>{slow && <Bone width="60%" />}</dd>
            ) : (
              <dd className={s.unknown}>Not known yet</dd>
            )}
          </div>
        )
      })}
    </dl>
  )
}

function evidence(field: QualificationField): string {
  const parts = [
    field.quote && `“${field.quote}”`,
    field.confidence != null && `${Math.round(field.confidence * 100)}% confident`,
    field.author && `by ${field.author.name}`,
  ]
  return parts.filter(Boolean).join(' · ')
}
