import { useEffect, useRef } from 'react'
import { tinykeys } from 'tinykeys'

/** One shortcut: what the help sheet shows and what a page listens for. */
export interface Shortcut {
  /** As tinykeys writes it: "j", "g i", "$mod+Enter". */
  keys: string
  /** As a person reads it, one item per key. */
  shown: string[]
  label: string
  group: 'Go to' | 'Inbox' | 'Conversation' | 'Everywhere'
}

/** Every shortcut of the app. The help sheet lists them and tooltips name them. */
export const shortcuts = {
  goInbox: { keys: 'g i', shown: ['g', 'i'], label: 'Inbox', group: 'Go to' },
  goHandoffs: { keys: 'g h', shown: ['g', 'h'], label: 'Handoffs', group: 'Go to' },
  goPipeline: { keys: 'g p', shown: ['g', 'p'], label: 'Pipeline', group: 'Go to' },
  next: { keys: 'j', shown: ['j'], label: 'Next conversation', group: 'Inbox' },
  previous: { keys: 'k', shown: ['k'], label: 'Previous conversation', group: 'Inbox' },
  open: { keys: 'Enter', shown: ['Enter'], label: 'Open the conversation', group: 'Inbox' },
  back: { keys: 'Escape', shown: ['Esc'], label: 'Back to the list', group: 'Inbox' },
  reply: { keys: 'r', shown: ['r'], label: 'Reply', group: 'Conversation' },
  note: { keys: 'n', shown: ['n'], label: 'Internal note', group: 'Conversation' },
  send: { keys: '$mod+Enter', shown: ['Ctrl', 'Enter'], label: 'Send', group: 'Conversation' },
  help: { keys: '?', shown: ['?'], label: 'This list', group: 'Everywhere' },
} as const satisfies Record<string, Shortcut>

export type ShortcutId = keyof typeof shortcuts

/** Whether a key press belongs to a field or a dialog rather than to the page. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target
  if (!(target instanceof Element)) return false
  return (
    target.closest('input, textarea, select, [contenteditable="true"], [role="dialog"], [role="menu"]') !==
    null
  )
}

/** Listens for shortcuts while the component is shown; never while somebody types. */
export function useShortcuts(bindings: Partial<Record<ShortcutId, (event: KeyboardEvent) => void>>): void {
  const latest = useRef(bindings)
  latest.current = bindings
  const ids = Object.keys(bindings).join(' ')
  useEffect(() => {
    const map: Record<string, (event: KeyboardEvent) => void> = {}
    for (const id of ids.split(' ') as ShortcutId[]) {
      if (!shortcuts[id]) continue
      const press = (event: KeyboardEvent) => {
        if (isTyping(event) || event.defaultPrevented) return
        latest.current[id]?.(event)
      }
      const combo = shortcuts[id].keys
      map[combo] = press
      // Most layouts need Shift for the question mark, and tinykeys asks for modifiers exactly.
      if (combo === '?') map['Shift+?'] = press
    }
    return tinykeys(window, map)
  }, [ids])
}
