import { describe, expect, it } from 'vitest'
import { conversation, message } from '../../test/records'
import { previewPrefix, rowsOf, voiceOf } from './voices'

const ava = { kind: 'ai', id: 'ava', name: 'Ava' } as const
const dan = { kind: 'human', id: 'dan', name: 'Daniel' } as const
const now = new Date('2026-01-02T12:00:00')

const byRules = { model: 'rules', run_id: 'run', confidence: 0.9, sources: [] }

describe('voiceOf', () => {
  it.each([
    ['contact', message('m', 1)],
    ['ai', message('m', 1, { direction: 'outbound', sender: ava })],
    ['ai', message('m', 1, { direction: 'outbound', sender: { ...ava, kind: 'external' } })],
    ['human', message('m', 1, { direction: 'outbound', sender: dan })],
    ['note', message('m', 1, { kind: 'note', sender: ava })],
    ['event', message('m', 1, { kind: 'event', sender: ava })],
  ] as const)('is %s', (voice, m) => {
    expect(voiceOf(m)).toBe(voice)
  })
})

describe('rowsOf', () => {
  const at = (minute: number) => `2026-01-01T10:${String(minute).padStart(2, '0')}:00`

  it('names a block of one speaker once and puts the time under its end', () => {
    const rows = rowsOf(
      [
        message('m1', 1, { created_at: at(0) }),
        message('m2', 2, { created_at: at(1) }),
        message('m3', 3, { created_at: at(9) }),
      ],
      now,
    )
    expect(rows[0]).toMatchObject({ type: 'day', label: 'Yesterday' })
    expect(rows.slice(1).map((r) => r.type === 'message' && [r.named, r.footed])).toEqual([
      [true, false],
      [false, true],
      [true, true],
    ])
  })

  it('breaks a block at another voice of the same member', () => {
    const rows = rowsOf(
      [
        message('m1', 1, { created_at: at(0), direction: 'outbound', sender: dan, status: 'sent' }),
        message('m2', 2, {
          created_at: at(0),
          direction: 'outbound',
          sender: dan,
          kind: 'note',
          status: 'noted',
        }),
      ],
      now,
    )
    expect(rows.filter((r) => r.type === 'message' && r.named)).toHaveLength(2)
  })

  it('never hides a state that must be seen, nor the reasons of an AI member', () => {
    const rows = rowsOf(
      [
        message('m1', 1, { created_at: at(0), direction: 'outbound', sender: dan, status: 'failed' }),
        message('m2', 2, { created_at: at(0), direction: 'outbound', sender: dan, status: 'sent' }),
        message('m3', 3, {
          created_at: at(1),
          direction: 'outbound',
          sender: ava,
          status: 'sent',
          ai: byRules,
        }),
        message('m4', 4, {
          created_at: at(1),
          direction: 'outbound',
          sender: ava,
          status: 'sent',
          ai: byRules,
        }),
      ],
      now,
    )
    expect(rows.filter((r) => r.type === 'message').map((r) => r.type === 'message' && r.footed)).toEqual([
      true,
      true,
      true,
      true,
    ])
  })

  it('keeps event lines between messages and starts a line for each day', () => {
    const rows = rowsOf(
      [
        message('m1', 1, { created_at: '2026-01-01T10:00:00' }),
        message('e', 1, { kind: 'event', created_at: '2026-01-01T10:01:00' }),
        message('m2', 2, { created_at: '2026-01-02T09:00:00' }),
      ],
      now,
    )
    expect(rows.map((r) => r.type)).toEqual(['day', 'message', 'event', 'day', 'message'])
    expect(rows[3]).toMatchObject({ label: 'Today' })
  })
})

describe('previewPrefix', () => {
  it('says who spoke unless it was the contact', () => {
    expect(previewPrefix(conversation('c'), 'Daniel')).toBe('')
    expect(previewPrefix(conversation('c', { preview_name: 'Ava' }), 'Daniel')).toBe('Ava: ')
    expect(previewPrefix(conversation('c', { preview_name: 'Daniel' }), 'Daniel')).toBe('You: ')
  })
})
