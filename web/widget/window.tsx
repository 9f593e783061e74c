/** @jsxImportSource preact */
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { type Chat, maxText, type View } from './chat'
import { ChatIcon, CloseIcon, PageIcon, SendIcon, Sparkle, TeamIcon } from './icons'
import type { Pending } from './store'
import { linkOf, Text } from './text'
import type { Answering, Line, Source } from './wire'

function useView(chat: Chat): View {
  const [view, set] = useState(chat.view)
  useLayoutEffect(() => {
    set(chat.view)
    return chat.subscribe(() => set(chat.view))
  }, [chat])
  return view
}

/** Widget is the round button and, when open, the window. */
export function Widget({ chat }: { chat: Chat }) {
  const view = useView(chat)
  const launcher = useRef<HTMLButtonElement>(null)
  const close = () => {
    chat.setOpen(false)
    launcher.current?.focus()
  }
  const unread = view.unread > 99 ? '99+' : String(view.unread)
  return (
    <>
      {view.open && <Panel chat={chat} view={view} close={close} />}
      <button
        ref={launcher}
        type="button"
        class={view.open ? 'launcher on' : 'launcher'}
        aria-expanded={view.open}
        aria-label={
          view.open ? 'Close the chat' : view.unread > 0 ? `Open the chat, ${unread} unread` : 'Open the chat'
        }
        onClick={() => (view.open ? close() : chat.setOpen(true))}
      >
        {view.open ? <CloseIcon /> : <ChatIcon />}
        {!view.open && view.unread > 0 && (
          <span class="badge" aria-hidden="true">
            {unread}
          </span>
        )}
      </button>
    </>
  )
}

function Panel({ chat, view, close }: { chat: Chat; view: View; close: () => void }) {
  const onKey = (e: KeyboardEvent) => {
    if (e.key !== 'Escape' || e.isComposing) return
    e.stopPropagation()
    close()
  }
  return (
    <div class="panel" role="dialog" aria-label={view.title} onKeyDown={onKey}>
      <Head who={view.who} title={view.title} ready={view.ready} close={close} />
      {view.troubled && (
        <div class="trouble" role="status">
          {view.pending.some((p) => p.state !== 'refused')
            ? 'No connection. Your message is kept and will be sent.'
            : 'No connection. Trying again…'}
        </div>
      )}
      <Thread chat={chat} view={view} />
      <Composer chat={chat} />
    </div>
  )
}

function Avatar({ who }: { who: 'ai' | 'team' }) {
  return <span class={`avatar ${who}`}>{who === 'ai' ? <Sparkle size={16} /> : <TeamIcon />}</span>
}

/** describe says in words who answers, so that nobody takes an AI for a person. */
export function describe(who: Answering): [name: string, role: string] {
  switch (who.answering) {
    case 'ai':
      return [who.name, 'AI assistant']
    case 'human':
      return [who.name, 'from the team']
    default:
      return [who.name, 'the team answers here']
  }
}

function Initial({ name }: { name: string }) {
  return <span class="avatar human">{([...name][0] ?? '?').toUpperCase()}</span>
}

function Head({
  who,
  title,
  ready,
  close,
}: {
  who: Answering
  title: string
  ready: boolean
  close: () => void
}) {
  const [name, role] = describe(who)
  return (
    <header>
      {who.answering === 'human' ? <Initial name={name} /> : <Avatar who={who.answering} />}
      <div class="who" aria-live="polite">
        {ready ? (
          <>
            <strong>{name}</strong>
            <span class={who.answering}> · {role}</span>
          </>
        ) : (
          <strong>{title}</strong>
        )}
        <small>{ready ? title : 'Connecting…'}</small>
      </div>
      <button type="button" class="icon" aria-label="Close the chat" title="Close (Esc)" onClick={close}>
        <CloseIcon />
      </button>
    </header>
  )
}

function Thread({ chat, view }: { chat: Chat; view: View }) {
  const box = useRef<HTMLDivElement>(null)
  const atEnd = useRef(true)
  const mine = view.pending.at(-1)?.id
  const lastMine = useRef(mine)
  // Who reads further up is left there, until he or she writes.
  useLayoutEffect(() => {
    const el = box.current
    if (mine && mine !== lastMine.current) atEnd.current = true
    lastMine.current = mine
    if (el && atEnd.current) el.scrollTop = el.scrollHeight
  })
  const onScroll = () => {
    const el = box.current
    if (el) atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < 60
  }
  return (
    <div
      class="thread"
      ref={box}
      onScroll={onScroll}
      role="log"
      aria-live="polite"
      aria-label="Messages"
      tabIndex={0}
    >
      {view.greeting && <p class="greeting">{view.greeting}</p>}
      {view.lines.map((l, i) => (
        <Message key={l.client_id || l.id} line={l} before={view.lines[i - 1]} />
      ))}
      {view.pending.map((p) => (
        <Unsent key={p.id} pending={p} discard={() => chat.discard(p.id)} />
      ))}
      {view.typing && (
        <div class={`row ${view.typing.from}`}>
          <div class="name">
            {view.typing.from === 'ai' && <Sparkle />}
            {view.typing.name} is writing
          </div>
          <div class="bubble dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </div>
        </div>
      )}
    </div>
  )
}

const clock = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' })
const day = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' })
const gap = 10 * 60_000 // ms after which a line gets its own name and time again

function Message({ line, before }: { line: Line; before: Line | undefined }) {
  const at = new Date(line.at)
  const was = before ? new Date(before.at) : undefined
  const newDay = !was || was.toDateString() !== at.toDateString()
  const first =
    newDay ||
    before?.from !== line.from ||
    before.name !== line.name ||
    at.getTime() - (was?.getTime() ?? 0) > gap
  const time = <time dateTime={line.at}>{clock.format(at)}</time>
  return (
    <>
      {newDay && <div class="day">{day.format(at)}</div>}
      <div class={`row ${line.from}${first ? ' first' : ''}`}>
        {first && line.from !== 'system' && (
          <div class="name">
            {line.from === 'ai' && <Sparkle />}
            {line.from === 'visitor' ? <span class="away">You</span> : line.name}
            {line.from === 'ai' && ' · AI assistant'} {time}
          </div>
        )}
        <div class="bubble">
          <Text text={line.text} />
        </div>
        {line.sources && line.sources.length > 0 && <Sources sources={line.sources} />}
      </div>
    </>
  )
}

function Sources({ sources }: { sources: Source[] }) {
  return (
    <ul class="sources" aria-label="Sources">
      {sources.map((s) => {
        const href = linkOf(s.url)
        return (
          <li key={s.title + s.url}>
            {href ? (
              <a href={href} target="_blank" rel="noopener noreferrer">
                <PageIcon /> {s.title}
              </a>
            ) : (
              <span>
                <PageIcon /> {s.title}
              </span>
            )}
          </li>
        )
      })}
    </ul>
  )
}

const states = { waiting: 'Waiting to be sent', sending: 'Sending…', sent: 'Sent', refused: 'Not sent' }

function Unsent({ pending, discard }: { pending: Pending; discard: () => void }) {
  const refused = pending.state === 'refused'
  return (
    <div class={`row visitor first ${pending.state}`}>
      <div class="bubble">
        <Text text={pending.text} />
      </div>
      <div class="state">
        {states[pending.state]}
        {refused && `: ${pending.error || 'the server does not take it.'} `}
        {refused && (
          <button type="button" class="link" onClick={discard}>
            Remove
          </button>
        )}
      </div>
    </div>
  )
}

function Composer({ chat }: { chat: Chat }) {
  const box = useRef<HTMLTextAreaElement>(null)
  const [text, setText] = useState('')
  const left = maxText - [...text.trim()].length
  const ok = left >= 0 && text.trim() !== ''
  useEffect(() => box.current?.focus(), [])
  // The height follows the text.
  useLayoutEffect(() => {
    const el = box.current
    if (!el) return
    el.style.height = 'auto'
    el.style.height = `${Math.min(el.scrollHeight, 132)}px`
  }, [text])
  const send = () => {
    if (!ok || !chat.send(text)) return
    setText('')
    box.current?.focus()
  }
  return (
    <form
      onSubmit={(e) => {
        e.preventDefault()
        send()
      }}
    >
      <textarea
        ref={box}
        rows={1}
        value={text}
        placeholder="Write a message"
        aria-label="Message"
        aria-invalid={left < 0}
        onInput={(e) => {
          setText(e.currentTarget.value)
          chat.typing()
        }}
        onKeyDown={(e) => {
          if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return
          e.preventDefault()
          send()
        }}
      />
      <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled={!ok}>
        <SendIcon />
      </button>
      {left < 500 && (
        <div class={left < 0 ? 'count over' : 'count'} role="status">
          {left < 0 ? `${-left} characters too many` : `${left} characters left`}
        </div>
      )}
    </form>
  )
}
