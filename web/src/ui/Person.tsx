import { IconSparkles, IconUser } from '@tabler/icons-react'
import s from './person.module.css'

const hues = [258, 190, 150, 75, 28, 330, 300, 220]

/** The first letters of the first and the last name: "Amara Okafor" is "AO". */
export function initials(name: string): string {
  const words = name
    .trim()
    .split(/[\s·]+/)
    .filter(Boolean)
  const first = words[0] ?? '?'
  const last = words.length > 1 ? (words[words.length - 1] ?? '') : ''
  return ([...first][0] ?? '?').toUpperCase() + ([...last][0] ?? '').toUpperCase()
}

function hue(name: string): number {
  let sum = 0
  for (const ch of name) sum += ch.codePointAt(0) ?? 0
  return hues[sum % hues.length] ?? 258
}

interface PersonProps {
  name: string
  /** Pixels. */
  size?: number
  /** AI members are rounded squares with a sparkle, people are circles with initials. */
  ai?: boolean
}

/** A decorative face; the name stands beside it or in a visually hidden text. */
export function Person({ name, size = 28, ai }: PersonProps) {
  const box = { width: size, height: size }
  if (ai) {
    return (
      <span aria-hidden className={`${s.face} ${s.agent}`} style={{ ...box, borderRadius: size * 0.32 }}>
        <IconSparkles size={size * 0.55} stroke={1.8} />
      </span>
    )
  }
  if (!name) {
    return (
      <span aria-hidden className={`${s.face} ${s.none}`} style={box}>
        <IconUser size={size * 0.55} stroke={1.6} />
      </span>
    )
  }
  const h = hue(name)
  return (
    <span
      aria-hidden
      className={`${s.face} ${s.round}`}
      style={{
        ...box,
        fontSize: size * 0.38,
        background: `light-dark(oklch(0.92 0.045 ${h}), oklch(0.36 0.06 ${h}))`,
        color: `light-dark(oklch(0.38 0.1 ${h}), oklch(0.92 0.04 ${h}))`,
      }}
    >
      {initials(name)}
    </span>
  )
}
