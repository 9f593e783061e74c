import type {
  Board,
  Conversation,
  ConversationCounts,
  ConversationView,
  Handoff,
  Lead,
  Me,
  Member,
  Message,
  Page,
} from './types'

type Json<T> = { content: { 'application/json': T } }

type Absent<T> = [T] extends [never] ? true : false

/** One operation as openapi-typescript writes it; `never` means that a part does not exist. */
type Call<Answer, Query = never, Path = never, Body = never, Header = never> = {
  parameters: { query?: Query; cookie?: never } & (Absent<Path> extends true
    ? { path?: never }
    : { path: Path }) &
    (Absent<Header> extends true ? { header?: never } : { header: Header })
  responses: { 200: Json<Answer> }
} & (Absent<Body> extends true ? { requestBody?: never } : { requestBody: Json<Body> })

type Paging = { limit?: number; cursor?: string }
type Id = { id: string }
type Nothing = Record<string, never>

/** The calls that the app makes, in the form that openapi-fetch reads. */
export interface paths {
  '/auth/login': { post: Call<Me, never, never, { email: string; password: string }> }
  '/auth/logout': { post: Call<undefined> }
  '/me': { get: Call<Me> }
  '/conversations': {
    get: Call<Page<Conversation>, Paging & { view?: ConversationView; lead_id?: string }>
  }
  '/conversations/counts': { get: Call<ConversationCounts> }
  '/conversations/{id}': { get: Call<Conversation, never, Id> }
  '/conversations/{id}/messages': {
    get: Call<Page<Message>, { limit?: number; before?: string; after?: number }, Id>
    post: Call<
      Message,
      never,
      Id,
      { kind: 'message' | 'note'; text: string; fence?: number },
      { 'Idempotency-Key': string }
    >
  }
  '/conversations/{id}/takeover': { post: Call<Conversation, never, Id, { reason?: string }> }
  '/conversations/{id}/claim': { post: Call<Conversation, never, Id, Nothing> }
  '/conversations/{id}/hand-to-ai': { post: Call<Conversation, never, Id, { member_id?: string }> }
  '/conversations/{id}/resolve': { post: Call<Conversation, never, Id, Nothing> }
  '/conversations/{id}/reopen': { post: Call<Conversation, never, Id, Nothing> }
  '/conversations/{id}/read': { post: Call<undefined, never, Id, Nothing> }
  '/conversations/{id}/typing': { post: Call<undefined, never, Id, Nothing> }
  '/handoffs/{id}': { get: Call<Handoff, never, Id> }
  '/handoffs/{id}/accept': { post: Call<Handoff, never, Id, Nothing> }
  '/handoffs/{id}/reject': { post: Call<Handoff, never, Id, { reason: string }> }
  '/leads': { get: Call<Page<Lead>, Paging & { filter?: { [field: string]: string } }> }
  '/leads/{id}': { get: Call<Lead, never, Id> }
  '/boards': { get: Call<Page<Board>, Paging> }
  '/members': { get: Call<Page<Member>, Paging> }
}
