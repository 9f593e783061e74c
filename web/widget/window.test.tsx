/** @jsxImportSource preact */
import { render } from 'preact'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Chat } from './chat'
import { FakeServer } from './fakeserver'
import { accentCss } from './style'
import { linkOf, Text } from './text'
import { Widget } from './window'

function shown(text: string): HTMLElement {
  const el = document.createElement('div')
  render(<Text text={text} />, el)
  return el
}

describe('text', () => {
  it.each([
    ['see https://a.co/x?y=1&z=2.', 'https://a.co/x?y=1&z=2'],
    ['(https://a.co/x)', 'https://a.co/x'],
    ['https://en.wikipedia.org/wiki/Go_(game)', 'https://en.wikipedia.org/wiki/Go_(game)'],
    ['HTTP://A.CO!', 'http://a.co/'],
  ])('links %s', (text, href) => {
    const el = shown(text)
    const a = el.querySelector('a')
    expect(a?.href).toBe(href)
    expect(a?.rel).toContain('noopener')
    expect(el.textContent).toBe(text)
  })

  it.each([
    '<img src=x onerror=alert(1)>',
    '<script>alert(1)</script>',
    'javascript:alert(1)',
    'data:text/html,<script>alert(1)</script>',
    'https://"><svg onload=alert(1)>',
    'https://',
    'vbscript:x https:/one.slash',
    '<a href="javascript:alert(1)">x</a>',
  ])('shows %s as it is', (text) => {
    const el = shown(text)
    expect(el.textContent).toBe(text)
    expect([...el.querySelectorAll('*')].every((n) => n.tagName === 'A')).toBe(true)
    for (const a of el.querySelectorAll('a')) expect(a.href).toMatch(/^https?:/)
  })

  it('takes only http and https addresses of sources', () => {
    expect(linkOf('javascript:alert(1)')).toBeUndefined()
    expect(linkOf('//x.co')).toBeUndefined()
    expect(linkOf('https://x.co')).toBe('https://x.co/')
  })
})

describe('accent', () => {
  it('chooses an ink that can be read', () => {
    expect(accentCss('#2058cf')).toContain('--on:#fff')
    expect(accentCss('#ffd400')).toContain('--on:#111')
  })
  it('lets nothing but a color into the style sheet', () => {
    expect(accentCss('#fff}*{display:none')).toBe('')
    expect(accentCss('red')).toBe('')
  })
})

describe('the window', () => {
  let server: FakeServer
  let chat: Chat
  let root: HTMLElement

  beforeEach(() => {
    vi.useFakeTimers({ now: new Date('2026-05-04T12:00:00Z') })
    localStorage.clear()
    server = new FakeServer()
    server.install()
    chat = new Chat('https://hub.example/chat/pk', 'pk', 'Chat')
    root = document.createElement('div')
    document.body.append(root)
    render(<Widget chat={chat} />, root)
  })

  afterEach(() => {
    chat.stop()
    render(null, root)
    root.remove()
    vi.unstubAllGlobals()
    vi.useRealTimers()
  })

  const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)
  const find = <T extends HTMLElement>(selector: string) => root.querySelector<T>(selector) as T

  it('opens, says who answers, takes a message by Enter and closes by Escape', async () => {
    find('.launcher').click()
    await pass(100)
    expect(find('header').textContent).toContain('Ava · AI assistant')
    const box = find<HTMLTextAreaElement>('textarea')
    expect(document.activeElement).toBe(box)
    box.value = 'Hello <b>there</b>'
    box.dispatchEvent(new Event('input', { bubbles: true }))
    await pass(10)
    box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }))
    await pass(100)
    expect(find('.thread').textContent).toContain('Hello <b>there</b>')
    expect(root.querySelector('b')).toBeNull()
    expect(box.value).toBe('')
    box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true }))
    await pass(10)
    expect(root.querySelector('.panel')).toBeNull()
    expect(document.activeElement).toBe(find('.launcher'))
    server.say('ai', 'Hi!')
    await pass(10)
    expect(find('.launcher').getAttribute('aria-label')).toBe('Open the chat, 1 unread')
  })

  it('shows the sources of an answer and tells an AI from a person', async () => {
    find('.launcher').click()
    await pass(100)
    const line = server.say('ai', 'Two days.')
    line.sources = [
      { title: 'Delivery', url: 'https://x.co/d' },
      { title: 'Hidden', url: 'javascript:alert(1)' },
    ]
    server.cut()
    chat.stop()
    localStorage.clear()
    render(null, root)
    chat = new Chat('https://hub.example/chat/pk', 'pk', 'Chat')
    render(<Widget chat={chat} />, root)
    find('.launcher').click()
    await pass(100)
    expect(find('.row.ai .name').textContent).toContain('AI assistant')
    const links = [...root.querySelectorAll<HTMLAnchorElement>('.sources a')]
    expect(links.map((a) => a.href)).toEqual(['https://x.co/d'])
    expect(find('.sources').textContent).toContain('Hidden')
  })
})
