// The records as the server describes them, under the names that the pages use. schema.d.ts is made from
// api/openapi.json by `npm run gen:api`; `make test` fails when it is out of date.
import type { components, operations } from './schema'

type Schemas = components['schemas']

export type MemberRef = Schemas['MemberRef']
export type Me = Schemas['MeShape']
export type Amount = Schemas['Money']
export type Conversation = Schemas['Conversation']
export type ConversationCounts = Schemas['Counts']
export type Source = Schemas['Source']
export type Message = Schemas['Message']
export type HandoffPacket = Schemas['Packet']
export type Handoff = Schemas['Handoff']
export type QualificationField = Schemas['Qualification']
export type Lead = Schemas['Lead']
export type Stage = Schemas['Stage']
export type Board = Schemas['Board']
export type Member = Schemas['Member']

export type ConversationView = NonNullable<
  NonNullable<operations['get-conversations']['parameters']['query']>['view']
>

/** One keyset page; `next` is absent at the end. */
export interface Page<T> {
  items: T[]
  next?: string
}

/** One fact of the live stream. */
export type LiveEvent = Schemas['FactShape']

/** Somebody is writing, until the time given. It is a signal, which no operation answers. */
export interface TypingEvent {
  conversation_id: string
  member: MemberRef | 'contact'
  until: string
}
