import createClient from 'openapi-fetch'
import { ApiError, asApiError, errorFrom } from './errors'
import type { paths } from './schema'

export const base = '/api/v1'

/** How long a request may take before the page says that Tandem cannot be reached. */
const patience = 20_000

/** The server's own paths (schema.d.ts, made from api/openapi.json by `npm run gen:api`), below `base`. */
type Paths = { [P in keyof paths as P extends `${typeof base}${infer Rest}` ? Rest : never]: paths[P] }

/** The typed client. Every failure is thrown as an ApiError by `answer`. */
export const api = createClient<Paths>({
  baseUrl: base,
  credentials: 'same-origin',
  fetch: (request) =>
    fetch(request, { signal: AbortSignal.any([request.signal, AbortSignal.timeout(patience)]) }),
})

/** Waits for a call and returns its body, or throws an ApiError. */
export async function answer<T>(
  call: Promise<{ data?: T; error?: unknown; response: Response }>,
): Promise<T> {
  try {
    const { data, error, response } = await call
    if (!response.ok) throw errorFrom(response, error)
    return data as T
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === 'TimeoutError') throw new ApiError(0)
    if (thrown instanceof DOMException && thrown.name === 'AbortError') throw thrown
    throw asApiError(thrown)
  }
}
