// Compile-time proof that the hand-written types still name what the server's own description
// (schema.d.ts, made by `npm run gen:api`) offers. They are written by hand because that
// description does not say which records may be null, and the pages must know it.
import type { paths } from './paths'
import type { components, paths as described } from './schema'
import type * as own from './types'

type Schemas = components['schemas']

/** Fields that we read and the server does not describe. */
type Unknown<Own, Theirs> = Exclude<keyof Own, keyof Theirs>

/** Calls that we make and the server does not describe. */
type UnknownCalls = Exclude<`/api/v1${keyof paths & string}`, keyof described>

type Nothing<T extends never> = T

export type Proof = [
  Nothing<UnknownCalls>,
  Nothing<Unknown<own.Me, Schemas['MeShape']>>,
  Nothing<Unknown<own.Conversation, Schemas['Conversation']>>,
  Nothing<Unknown<own.ConversationCounts, Schemas['Counts']>>,
  Nothing<Unknown<own.Message, Schemas['Message']>>,
  Nothing<Unknown<NonNullable<own.Message['ai']>, Schemas['AIMeta']>>,
  Nothing<Unknown<own.Source, Schemas['Source']>>,
  Nothing<Unknown<own.Handoff, Schemas['Handoff']>>,
  Nothing<Unknown<own.HandoffPacket, Schemas['Packet']>>,
  Nothing<Unknown<own.Lead, Schemas['Lead']>>,
  Nothing<Unknown<own.QualificationField, Schemas['Qualification']>>,
  Nothing<Unknown<own.Board, Schemas['Board']>>,
  Nothing<Unknown<own.Stage, Schemas['Stage']>>,
  Nothing<Unknown<own.Member, Schemas['Member']>>,
  Nothing<Unknown<own.Amount, Schemas['Money']>>,
]
