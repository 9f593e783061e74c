import type { Conversation, Message } from '../../api/types'
import { dayName } from '../../ui/format'

/** The four voices of a thread, and the event lines between them. */
export type Voice = 'contact' | 'human' | 'ai' | 'note' | 'event'

export function voiceOf(m: Message): Voice {
  if (m.kind === 'event') return 'event'
  if (m.kind === 'note') return 'note'
  switch (m.sender.kind) {
    case 'contact':
      return 'contact'
    case 'human':
      return 'human'
    case 'ai':
    case 'external':
      return 'ai'
    default:
      // Tandem's own lines, such as "one moment, a colleague will take over", go to the contact.
      return m.direction === 'inbound' ? 'contact' : 'ai'
  }
}

/** One row of a thread. */
export type ThreadItem =
  | { type: 'day'; key: string; label: string }
  | { type: 'event'; key: string; message: Message }
  | {
      type: 'message'
      key: string
      message: Message
      voice: Exclude<Voice, 'event'>
      /** Whether the speaker's name stands above. */
      named: boolean
      /** Whether the time and the delivery state stand below. */
      footed: boolean
    }

/** Messages of one speaker that follow within this time are shown as one block. Milliseconds. */
const together = 3 * 60_000

const dayOf = (iso: string) => new Date(iso).toDateString()

function continues(before: Message | undefined, m: Message): boolean {
  if (!before || before.kind !== m.kind || voiceOf(before) !== voiceOf(m)) return false
  if (before.sender.id !== m.sender.id || before.sender.name !== m.sender.name) return false
  if (dayOf(before.created_at) !== dayOf(m.created_at)) return false
  return Date.parse(m.created_at) - Date.parse(before.created_at) < together
}

/** A state that must be seen is never hidden in a block. */
function plainState(m: Message): boolean {
  return ['received', 'noted', 'sent', 'delivered', 'read'].includes(m.status) && !m.ai
}

/** Turns messages, oldest first, into rows with day lines and blocks of one speaker. */
export function rowsOf(messages: Message[], now: Date = new Date()): ThreadItem[] {
  const rows: ThreadItem[] = []
  messages.forEach((m, i) => {
    const before = messages[i - 1]
    const after = messages[i + 1]
    if (!before || dayOf(before.created_at) !== dayOf(m.created_at)) {
      rows.push({ type: 'day', key: `day ${dayOf(m.created_at)}`, label: dayName(m.created_at, now) })
    }
    const voice = voiceOf(m)
    const key = m.client_key ?? m.id
    if (voice === 'event') {
      rows.push({ type: 'event', key, message: m })
      return
    }
    rows.push({
      type: 'message',
      key,
      message: m,
      voice,
      named: !continues(before, m),
      footed: !plainState(m) || !after || !continues(m, after),
    })
  })
  return rows
}

/** Who said what the list previews: "You: ", "Ava: ", or nothing when the contact did. */
export function previewPrefix(c: Conversation, myName: string): string {
  const who = c.preview_name
  if (!who || who === c.contact.name || c.preview_kind === 'contact' || c.preview_kind === 'event') return ''
  return `${who === myName ? 'You' : who}: `
}
