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

/** Gives the viewer's controls the names that it leaves out. */
function mend(view: HTMLElement): void {
  const name = () => {
    for (const input of view.querySelectorAll('input.operation-filter-input:not([aria-label])'))
      input.setAttribute('aria-label', 'Filter by tag')
    for (const select of view.querySelectorAll('select:not([aria-label], [id])'))
      select.setAttribute('aria-label', 'Choose')
  }
  name()
  new MutationObserver(name).observe(view, { childList: true, subtree: true })
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
