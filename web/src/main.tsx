import '@fontsource-variable/inter/wght.css'
import '@mantine/core/styles.layer.css'
import '@mantine/notifications/styles.layer.css'
import './tokens.css'
import { MantineProvider } from '@mantine/core'
import { Notifications } from '@mantine/notifications'
import { QueryClientProvider } from '@tanstack/react-query'
import { RouterProvider } from '@tanstack/react-router'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { makeCache } from './cache'
import { makeRouter } from './router'
import { theme, variables } from './theme'

// After a new release the page may ask for a file that is gone; one reload fetches the new names.
window.addEventListener('vite:preloadError', () => {
  const mark = 'tandem:reloaded-at'
  const last = Number(sessionStorage.getItem(mark) ?? 0)
  if (Date.now() - last < 60_000) return
  sessionStorage.setItem(mark, String(Date.now()))
  location.reload()
})

const cache = makeCache(() => {
  const here = router.state.location
  if (here.pathname === '/login') return
  cache.clear()
  void router.navigate({ to: '/login', search: { next: here.href } })
})
const router = makeRouter(cache)

const root = document.getElementById('root')
if (!root) throw new Error('index.html has no #root')
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={cache}>
      <MantineProvider theme={theme} cssVariablesResolver={variables} defaultColorScheme="auto">
        <Notifications position="top-center" limit={4} containerWidth={340} />
        <RouterProvider router={router} />
      </MantineProvider>
    </QueryClientProvider>
  </StrictMode>,
)
