import type { QueryClient } from '@tanstack/react-query'
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from '@tanstack/react-router'
import { asApiError } from './api/errors'
import { meQuery } from './api/session'
import type { ConversationView } from './api/types'
import { NotFound, PageFailure } from './features/shell/fallbacks'
import { Shell } from './features/shell/Shell'

const views: ConversationView[] = ['mine', 'needs_you', 'ai', 'unowned', 'all']

const root = createRootRouteWithContext<{ cache: QueryClient }>()({
  component: Outlet,
  notFoundComponent: NotFound,
  errorComponent: PageFailure,
})

const login = createRoute({
  getParentRoute: () => root,
  path: '/login',
  validateSearch: (search): { next?: string } => ({
    // Only addresses of this app: an open redirect would help whoever fishes for passwords.
    next: typeof search.next === 'string' && /^\/(?![/\\])/.test(search.next) ? search.next : undefined,
  }),
  component: lazyRouteComponent(() => import('./features/auth/LoginPage'), 'LoginPage'),
})

const app = createRoute({
  getParentRoute: () => root,
  id: 'app',
  beforeLoad: async ({ context, location }) => {
    try {
      await context.cache.ensureQueryData(meQuery)
    } catch (thrown) {
      if (asApiError(thrown).kind !== 'unauthenticated') throw thrown
      throw redirect({ to: '/login', search: { next: location.href === '/' ? undefined : location.href } })
    }
  },
  component: Shell,
  errorComponent: PageFailure,
})

const home = createRoute({
  getParentRoute: () => app,
  path: '/',
  beforeLoad: () => {
    throw redirect({ to: '/inbox/{-$conversationId}', params: {}, search: {} })
  },
})

const inbox = createRoute({
  getParentRoute: () => app,
  path: '/inbox/{-$conversationId}',
  validateSearch: (search): { view?: ConversationView } => ({
    view: views.find((v) => v === search.view),
  }),
  component: lazyRouteComponent(() => import('./features/inbox/InboxPage'), 'InboxPage'),
})

const pipeline = createRoute({
  getParentRoute: () => app,
  path: '/pipeline',
  validateSearch: (search): { board?: string } => ({
    board: typeof search.board === 'string' ? search.board : undefined,
  }),
  component: lazyRouteComponent(() => import('./features/pipeline/PipelinePage'), 'PipelinePage'),
})

const tree = root.addChildren([login, app.addChildren([home, inbox, pipeline])])

export function makeRouter(cache: QueryClient) {
  return createRouter({
    routeTree: tree,
    context: { cache },
    defaultPreload: 'intent',
    defaultErrorComponent: PageFailure,
    scrollRestoration: false,
  })
}

declare module '@tanstack/react-router' {
  interface Register {
    router: ReturnType<typeof makeRouter>
  }
}
