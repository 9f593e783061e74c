import { Button, SegmentedControl, Textarea } from '@mantine/core'
import { IconSend2 } from '@tabler/icons-react'
import {
  type KeyboardEvent,
  type Ref,
  useEffect,
  useImperativeHandle,
  useMemo,
  useRef,
  useState,
} from 'react'
import { answer, api } from '../../api/client'
import { may, useMe } from '../../api/session'
import type { Conversation } from '../../api/types'
import { channelLabel } from '../../ui/ChannelIcon'
import { Kbd } from '../../ui/Tag'
import s from './composer.module.css'
import { type Draft, type DraftMode, Drafts } from './drafts'
import { useSend } from './send'

export interface ComposerHandle {
  focus: (mode: DraftMode) => void
}

/** The visitor is told at most this often that somebody writes. Milliseconds. */
const typingPause = 3_000

/** Reply to the contact, or leave a note for the team. Drafts stay in this browser. */
export function Composer({ ref, conversation: c }: { ref: Ref<ComposerHandle>; conversation: Conversation }) {
  const me = useMe()
  const drafts = useMemo(() => new Drafts(me.member.id), [me.member.id])
  const [draft, setDraft] = useState<Draft>(() => drafts.load(c.id))
  const field = useRef<HTMLTextAreaElement>(null)
  const { send } = useSend()
  const lastTyping = useRef(0)

  useEffect(() => drafts.save(c.id, draft), [drafts, c.id, draft])

  const setMode = (mode: DraftMode) => setDraft((d) => ({ ...d, mode }))
  useImperativeHandle(ref, () => ({
    focus: (mode) => {
      setMode(mode)
      field.current?.focus()
    },
  }))

  const { mode } = draft
  const text = draft[mode]
  const note = mode === 'note'
  const teammate = c.owner?.kind === 'human' && c.owner.id !== me.member.id ? c.owner.name : undefined
  const allowed = may(me, 'conversation:reply')
  const blocked = !note && teammate !== undefined
  const ready = text.trim() !== '' && allowed && !blocked

  const change = (value: string) => {
    setDraft((d) => ({ ...d, [mode]: value }))
    if (note || blocked || !value.trim()) return
    const now = Date.now()
    if (now - lastTyping.current < typingPause) return
    lastTyping.current = now
    // Only a courtesy to the visitor: a failure is not worth a word.
    answer(api.POST('/conversations/{id}/typing', { params: { path: { id: c.id } }, body: {} })).catch(
      () => {},
    )
  }

  const submit = () => {
    if (!ready) return
    send(c, note ? 'note' : 'message', text.trim())
    setDraft((d) => ({ ...d, [mode]: '' }))
    lastTyping.current = 0
    field.current?.focus()
  }

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault()
      submit()
    } else if (event.key === 'Escape') {
      event.stopPropagation()
      field.current?.blur()
    }
  }

  if (!allowed) {
    return (
      <p className={s.closed}>
        You may read this conversation but not answer it. An owner of your organization can grant
        “conversation:reply”.
      </p>
    )
  }
  return (
    <div className={`${s.composer} ${note ? s.note : ''}`}>
      <div className={s.head}>
        <SegmentedControl
          size="xs"
          aria-label="Who reads it"
          value={mode}
          onChange={(value) => setMode(value as DraftMode)}
          data={[
            { value: 'reply', label: 'Reply' },
            { value: 'note', label: 'Internal note' },
          ]}
        />
        <span className={s.hint}>{hint(c, note, me.member.id)}</span>
      </div>
      <Textarea
        ref={field}
        variant="unstyled"
        aria-label={note ? 'Internal note' : 'Reply'}
        autosize
        minRows={2}
        maxRows={8}
        px={12}
        disabled={blocked}
        placeholder={placeholder(c, note, teammate)}
        value={text}
        onChange={(event) => change(event.currentTarget.value)}
        onKeyDown={onKeyDown}
      />
      <div className={s.foot}>
        <span className={s.keys}>
          <Kbd>Ctrl</Kbd> <Kbd>Enter</Kbd>
        </span>
        <Button disabled={!ready} rightSection={<IconSend2 size={14} aria-hidden />} onClick={submit}>
          {note ? 'Add note' : 'Send'}
        </Button>
      </div>
    </div>
  )
}

function hint(c: Conversation, note: boolean, myId: string): string {
  if (note) return 'Only your team and AI members see this'
  const via = `via ${channelLabel(c.channel.kind).toLowerCase()}`
  if (c.owner && c.owner.kind !== 'human') return `${via} · takes over from ${c.owner.name}`
  if (!c.owner) return `${via} · you become the owner`
  return c.owner.id === myId ? via : `${c.owner.name} answers here`
}

function placeholder(c: Conversation, note: boolean, teammate?: string): string {
  if (note) return 'Write a note for your team'
  if (teammate) return `${teammate} answers this conversation. Take it over, or write a note.`
  return `Reply to ${c.contact.name.split(' ')[0]}`
}
