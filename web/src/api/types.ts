/** A member as other records show it. */
export interface MemberRef {
  id: string
  kind: 'human' | 'ai' | 'external'
  name: string
}

export interface Me {
  member: MemberRef & { title?: string; role: string }
  user?: { email: string }
  org: { id: string; name: string; currency: string }
  permissions: string[]
}

/** One keyset page; `next` is absent at the end. */
export interface Page<T> {
  items: T[]
  next?: string
}

/** Integer minor units (cents) and an ISO 4217 code. */
export interface Amount {
  minor: number
  currency: string
}

export type ConversationView = 'mine' | 'needs_you' | 'ai' | 'unowned' | 'all'

export type ConversationCounts = Record<ConversationView, number>

export interface Conversation {
  id: string
  channel: { id: string; kind: string; name: string }
  contact: { id: string; name: string; company?: string; email?: string; phone?: string }
  lead?: {
    id: string
    title: string
    stage?: { id: string; name: string }
    value?: Amount | null
    temperature?: string
    priority?: string
  } | null
  subject?: string
  state: string
  snoozed_until?: string | null
  owner?: MemberRef | null
  /** The number of the ownership: every change of owner raises it. */
  fence: number
  handoff?: { id: string; reason: string; created_at: string; deadline?: string } | null
  preview?: string
  preview_kind?: string
  preview_name?: string
  last_message_at?: string | null
  message_count: number
  unread: number
  last_inbound_seq: number
  answered_seq: number
  created_at: string
  updated_at: string
}

export interface Source {
  document_id?: string
  title: string
  url?: string
  score?: number
}

export interface Message {
  id: string
  conversation_id: string
  seq: number
  direction: 'inbound' | 'outbound'
  kind: 'message' | 'note' | 'event'
  sender: { kind: 'contact' | 'human' | 'ai' | 'external' | 'system'; id?: string; name: string }
  text: string
  html?: string
  status: string
  created_at: string
  error?: string
  /** The idempotency key of the request that wrote it, so that its author knows it again. */
  client_key?: string
  /** Only on what an AI member wrote. */
  ai?: { run_id?: string; model?: string; confidence?: number | null; sources?: Source[] | null } | null
}

export interface HandoffPacket {
  summary?: string
  asked?: string[] | null
  tried?: string[] | null
  promised?: string[] | null
  qualification?: Record<string, { value: string; confidence?: number } | null> | null
  next_step?: string
}

export interface Handoff {
  id: string
  conversation_id: string
  lead_id?: string | null
  state: 'requested' | 'accepted' | 'rejected' | 'cancelled' | 'expired'
  reason: string
  packet?: HandoffPacket | null
  from?: MemberRef | null
  to?: { member_id?: string; team_id?: string; skill?: string; name?: string } | null
  deadline?: string | null
  created_at: string
  decided_by?: MemberRef | null
  decision?: string | null
  decided_at?: string | null
  conversation?: { id: string; contact: { id: string; name: string } }
}

export interface QualificationField {
  value: string
  confidence?: number | null
  quote?: string
  message_id?: string | null
  author?: MemberRef | null
  locked?: boolean
  updated_at?: string
}

export interface Lead {
  id: string
  title: string
  contact: { id: string; name: string; company?: string }
  board_id: string
  stage: { id: string; name: string; kind: 'open' | 'won' | 'lost' }
  assignee?: MemberRef | null
  source?: string
  value?: Amount | null
  priority?: string
  temperature?: string
  tags?: string[] | null
  qualification?: Record<string, QualificationField | null> | null
  conversation_ids?: string[] | null
  stage_changed_at?: string
  created_at: string
  updated_at: string
  version: number
}

export interface Stage {
  id: string
  board_id: string
  name: string
  position: number
  kind: 'open' | 'won' | 'lost'
  /** Capped at 1,000. */
  lead_count?: number
}

export interface Board {
  id: string
  name: string
  kind?: string
  is_default?: boolean
  stages: Stage[]
}

export interface Member extends MemberRef {
  title?: string
  role?: string
  status?: string
  skills?: string[] | null
  ai?: { provider: string; model: string; autonomy: string } | null
}

/** One fact of the live stream. */
export interface LiveEvent {
  id: string
  seq: number
  noun: string
  verb: string
  record_id: string
  actor?: { id?: string; kind: string; name: string }
  description?: string
  conversation_id?: string
  lead_id?: string
  at: string
}

/** Somebody is writing, until the time given. */
export interface TypingEvent {
  conversation_id: string
  member: MemberRef | 'contact'
  until: string
}
