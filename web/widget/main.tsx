/** @jsxImportSource preact */
import { render } from 'preact'
import { Chat } from './chat'
import { accentCss, css } from './style'
import { Widget } from './window'

/**
 * boot puts the chat on the page of the script tag
 *   <script src="https://host/chat/widget.js" data-key="PUBLIC_KEY" async></script>
 * Optional: data-title (until the server says), data-accent ("#rrggbb", wins over the channel's).
 */
function boot(script: HTMLScriptElement): void {
  const { key, title, accent } = script.dataset
  if (!key) {
    console.error('Tandem chat: the script tag needs data-key.')
    return
  }
  const tag = 'data-tandem-chat'
  if (document.querySelector(`[${tag}="${CSS.escape(key)}"]`)) return
  const host = document.createElement('div')
  host.setAttribute(tag, key)
  const root = host.attachShadow({ mode: 'open' })
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(css)
  const tint = new CSSStyleSheet()
  tint.replaceSync(accentCss(accent ?? ''))
  root.adoptedStyleSheets = [sheet, tint]

  const url = new URL(encodeURIComponent(key), script.src).href
  const chat = new Chat(url, key, title || 'Chat')
  let shown = accent ?? ''
  chat.subscribe(() => {
    const wanted = accent || chat.view.accent
    if (wanted === shown) return
    shown = wanted
    tint.replaceSync(accentCss(wanted))
  })
  render(<Widget chat={chat} />, root)
  document.body.append(host)
}

const script = document.currentScript
if (script instanceof HTMLScriptElement) {
  if (document.body) boot(script)
  else addEventListener('DOMContentLoaded', () => boot(script))
}
