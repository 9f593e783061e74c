import { describe, expect, it } from 'vitest'
import { ago, duration, money } from './format'
import { initials } from './Person'

describe('format', () => {
  const now = Date.parse('2026-03-10T12:00:00Z')

  it('writes ages short', () => {
    expect(ago('2026-03-10T11:59:30Z', now)).toBe('now')
    expect(ago('2026-03-10T11:56:00Z', now)).toBe('4m')
    expect(ago('2026-03-10T09:00:00Z', now)).toBe('3h')
    expect(ago('2026-03-08T11:00:00Z', now)).toBe('2d')
    expect(ago('nonsense', now)).toBe('')
  })

  it('writes waiting times in words', () => {
    expect(duration(20_000)).toBe('less than a minute')
    expect(duration(4 * 60_000)).toBe('4 min')
    expect(duration(26 * 3_600_000)).toBe('1 day')
  })

  it('reads minor units by currency', () => {
    expect(money(3_840_000, 'EUR', true)).toBe('€38.4k')
    expect(money(3_840_000, 'EUR')).toBe('€38,400')
    expect(money(3_840_050, 'EUR')).toBe('€38,400.50')
    expect(money(5_000, 'JPY')).toBe('¥5,000')
  })

  it('takes the first and the last initial', () => {
    expect(initials('Amara Okafor')).toBe('AO')
    expect(initials('ava')).toBe('A')
    expect(initials('Juan Carlos de la Vega')).toBe('JV')
    expect(initials('')).toBe('?')
  })
})
