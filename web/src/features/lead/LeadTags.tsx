import {
  type Icon,
  IconChevronsUp,
  IconChevronUp,
  IconFlame,
  IconSnowflake,
  IconTemperature,
} from '@tabler/icons-react'
import { Tag, type TagTone } from '../../ui/Tag'

interface Look {
  icon: Icon
  label: string
  tone: TagTone
  color: string
}

const temperatures: Record<string, Look> = {
  hot: { icon: IconFlame, label: 'Hot', tone: 'bad', color: 'var(--bad)' },
  warm: { icon: IconTemperature, label: 'Warm', tone: 'wait', color: 'var(--warn)' },
  cold: { icon: IconSnowflake, label: 'Cold', tone: 'accent', color: 'var(--accent)' },
}

const priorities: Record<string, Look> = {
  urgent: { icon: IconChevronsUp, label: 'Urgent', tone: 'bad', color: 'var(--bad)' },
  high: { icon: IconChevronUp, label: 'High priority', tone: 'wait', color: 'var(--warn)' },
}

interface LeadMarks {
  temperature?: string
  priority?: string
}

/** Temperature and any priority above normal, as words on a tinted ground. */
export function LeadTags({ temperature, priority }: LeadMarks) {
  const looks = [temperatures[temperature ?? ''], priorities[priority ?? '']].filter((x) => x !== undefined)
  return looks.map(({ icon: Mark, label, tone }) => (
    <Tag key={label} tone={tone} large>
      <Mark size={11} aria-hidden />
      {label}
    </Tag>
  ))
}

/** The same as small icons with names, for cards. */
export function LeadMarksIcons({ temperature, priority }: LeadMarks) {
  const looks = [temperatures[temperature ?? ''], priorities[priority ?? '']].filter((x) => x !== undefined)
  return looks.map(({ icon: Mark, label, color }) => (
    <span key={label} role="img" aria-label={label} title={label} style={{ color, display: 'inline-flex' }}>
      <Mark size={14} aria-hidden />
    </span>
  ))
}
