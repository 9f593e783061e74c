export type DraftMode = 'reply' | 'note'

/** What is being written in one conversation. Reply and note are kept apart, so that a note is never sent by mistake. */
export interface Draft {
  mode: DraftMode
  reply: string
  note: string
}

export const emptyDraft: Draft = { mode: 'reply', reply: '', note: '' }

const prefix = 'tandem:draft:'

/** Drafts of one member in this browser, by conversation. */
export class Drafts {
  constructor(
    private readonly memberId: string,
    private readonly store: Pick<Storage, 'getItem' | 'setItem' | 'removeItem'> = localStorage,
  ) {}

  private key(conversationId: string): string {
    return `${prefix}${this.memberId}:${conversationId}`
  }

  load(conversationId: string): Draft {
    try {
      const saved: unknown = JSON.parse(this.store.getItem(this.key(conversationId)) ?? 'null')
      if (!saved || typeof saved !== 'object') return emptyDraft
      const { mode, reply, note } = saved as Partial<Draft>
      return {
        mode: mode === 'note' ? 'note' : 'reply',
        reply: typeof reply === 'string' ? reply : '',
        note: typeof note === 'string' ? note : '',
      }
    } catch {
      return emptyDraft
    }
  }

  /** Keeps a draft; one without any text is forgotten. A full or closed store is no reason to stop typing. */
  save(conversationId: string, draft: Draft): void {
    try {
      if (!draft.reply && !draft.note) this.store.removeItem(this.key(conversationId))
      else this.store.setItem(this.key(conversationId), JSON.stringify(draft))
    } catch {
      // The text stays in the field.
    }
  }
}
