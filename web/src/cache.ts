import { MutationCache, QueryCache, QueryClient } from '@tanstack/react-query'
import { asApiError } from './api/errors'

const attempts = 2

/**
 * The query cache. What the live stream covers stays fresh by it, so a page that is shown
 * again uses what is cached. `onSignedOut` runs when any call finds that the session ended.
 */
export function makeCache(onSignedOut: () => void): QueryClient {
  const watch = (error: unknown) => {
    if (asApiError(error).kind === 'unauthenticated') onSignedOut()
  }
  return new QueryClient({
    queryCache: new QueryCache({ onError: (error, query) => query.queryKey[0] !== 'me' && watch(error) }),
    mutationCache: new MutationCache({ onError: watch }),
    defaultOptions: {
      queries: {
        staleTime: 30_000,
        retry: (failures, error) => failures < attempts && asApiError(error).temporary,
      },
    },
  })
}
