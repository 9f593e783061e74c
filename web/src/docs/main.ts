import 'swagger-ui-dist/swagger-ui.css'
import './docs.css'

const description = '/api/v1/openapi.json'

const root = document.documentElement
const page = document.getElementById('docs')

// theme.js has chosen light or dark; the viewer knows it by a class.
root.classList.toggle('dark-mode', root.getAttribute('data-mantine-color-scheme') === 'dark')

async function show(into: HTMLElement): Promise<void> {
  const [spec, { default: SwaggerUI }] = await Promise.all([
    fetch(description).then((res) => {
      if (!res.ok) throw new Error(`The server answered ${res.status}.`)
      return res.json()
    }),
    import('swagger-ui-dist/swagger-ui-es-bundle.js'),
  ])
  const view = document.createElement('div')
  into.replaceChildren(view)
  SwaggerUI({
    domNode: view,
    spec,
    deepLinking: true,
    docExpansion: 'none',
    defaultModelsExpandDepth: -1, // every operation shows its own
    filter: true,
    displayRequestDuration: true,
    validatorUrl: null, // it would send the description to a server of the viewer's makers
    onComplete: () => mend(view),
  })
}

/** Mends what the viewer leaves out for keyboards and screen readers, whenever it draws something. */
function mend(view: HTMLElement): void {
  const each = (selector: string, change: (node: Element) => void) => {
    for (const node of view.querySelectorAll(selector)) change(node)
  }
  const all = () => {
    each('input.operation-filter-input:not([aria-label])', (n) =>
      n.setAttribute('aria-label', 'Filter by tag'),
    )
    each('select:not([aria-label])', (n) => n.setAttribute('aria-label', 'Choose'))
    each('.opblock-summary-control a[href]', (n) => n.removeAttribute('href')) // a link inside of a button
    each('.microlight:not([tabindex])', (n) => n.setAttribute('tabindex', '0')) // it scrolls
  }
  all()
  new MutationObserver(all).observe(view, { childList: true, subtree: true })
}

function sayWhy(into: HTMLElement, thrown: unknown): void {
  const text = document.createElement('p')
  text.setAttribute('role', 'alert')
  text.textContent = `The description of the API could not be loaded. ${thrown instanceof Error ? thrown.message : ''}`
  const again = document.createElement('button')
  again.type = 'button'
  again.textContent = 'Try again'
  again.addEventListener('click', () => void start(into))
  into.replaceChildren(text, again)
}

async function start(into: HTMLElement): Promise<void> {
  into.setAttribute('aria-busy', 'true')
  try {
    await show(into)
  } catch (thrown) {
    sayWhy(into, thrown)
  }
  into.removeAttribute('aria-busy')
}

if (page) void start(page)
