import { describe, expect, it } from 'vitest'
import { Drafts, emptyDraft } from './drafts'

describe('Drafts', () => {
  it('keeps a reply and a note apart, per conversation and member', () => {
    const mine = new Drafts('dan')
    mine.save('c1', { mode: 'note', reply: 'Dear Amara', note: 'she is upset' })
    expect(mine.load('c1')).toEqual({ mode: 'note', reply: 'Dear Amara', note: 'she is upset' })
    expect(mine.load('c2')).toEqual(emptyDraft)
    expect(new Drafts('rita').load('c1')).toEqual(emptyDraft)
  })

  it('forgets a draft without text', () => {
    const drafts = new Drafts('dan')
    drafts.save('c1', { mode: 'reply', reply: 'x', note: '' })
    drafts.save('c1', { mode: 'note', reply: '', note: '' })
    expect(localStorage.length).toBe(0)
  })

  it('survives a store that is full, closed or damaged', () => {
    const broken = {
      getItem: () => '{"reply":7',
      setItem: () => {
        throw new DOMException('full', 'QuotaExceededError')
      },
      removeItem: () => {},
    }
    const drafts = new Drafts('dan', broken)
    expect(drafts.load('c1')).toEqual(emptyDraft)
    expect(() => drafts.save('c1', { mode: 'reply', reply: 'x', note: '' })).not.toThrow()
  })
})
