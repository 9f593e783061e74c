import type { Conversation, LiveEvent, Message } from '../api/types'

/** Records for unit tests. */
export function conversation(id: string, change: Partial<Conversation> = {}): Conversation {
  return {
    id,
    channel: { id: 'ch', kind: 'webchat', name: 'Website chat' },
    contact: { id: `contact-${id}`, name: 'Amara Okafor', company: 'Northwind Clinics' },
    lead: null,
    subject: '',
    state: 'open',
    owner: null,
    fence: 1,
    handoff: null,
    preview: 'Hi',
    preview_kind: 'message',
    preview_name: 'Amara Okafor',
    last_message_at: '2026-01-01T10:00:00Z',
    message_count: 1,
    unread: 0,
    last_inbound_seq: 1,
    answered_seq: 0,
    created_at: '2026-01-01T09:00:00Z',
    updated_at: '2026-01-01T10:00:00Z',
    priority: 'normal',
    tags: [],
    version: 1,
    ...change,
  }
}

export function message(id: string, seq: number, change: Partial<Message> = {}): Message {
  return {
    id,
    conversation_id: 'c',
    seq,
    direction: 'inbound',
    kind: 'message',
    sender: { kind: 'contact', id: 'amara', name: 'Amara Okafor' },
    text: `Text of ${id}`,
    html: '',
    attachments: [],
    status: 'received',
    created_at: '2026-01-01T10:00:00Z',
    ...change,
  }
}

let facts = 0

export function fact(noun: string, verb: string, change: Partial<LiveEvent> = {}): LiveEvent {
  facts++
  return {
    id: `event-${facts}`,
    seq: facts,
    noun,
    verb,
    record_id: `record-${facts}`,
    actor: { kind: 'system', name: 'Tandem' },
    description: '',
    category: 'inbox',
    severity: 'info',
    chain_id: 'chain',
    at: '2026-01-01T10:00:00Z',
    ...change,
  }
}
