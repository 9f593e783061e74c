/** One wrong field of a request, as the server names it. */
export interface FieldProblem {
  field: string
  message: string
}

/** The body of an RFC 9457 answer (`application/problem+json`). */
export interface Problem {
  type?: string
  title?: string
  status?: number
  detail?: string
  errors?: FieldProblem[]
  request_id?: string
  /** For a conflict over ownership: who holds it now. */
  owner?: { id: string; kind: string; name: string }
}

/** What a failure means for the page that shows it. */
export type FailureKind =
  | 'offline'
  | 'unauthenticated'
  | 'forbidden'
  | 'not_found'
  | 'conflict'
  | 'invalid'
  | 'throttled'
  | 'unavailable'
  | 'internal'

const kinds: Record<number, FailureKind> = {
  400: 'invalid',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
  412: 'conflict',
  413: 'invalid',
  422: 'invalid',
  429: 'throttled',
  502: 'unavailable',
  503: 'unavailable',
  504: 'unavailable',
}

const sentences: Record<FailureKind, string> = {
  offline: 'Tandem cannot be reached. Check your connection.',
  unauthenticated: 'Your session has ended. Sign in again.',
  forbidden: 'You may not do this. An owner of your organization can grant it.',
  not_found: 'This does not exist, or it is not yours to see.',
  conflict: 'Somebody else was first. The page shows the newest state now.',
  invalid: 'The request has a field that is not right.',
  throttled: 'Too many requests. Try again in a moment.',
  unavailable: 'Tandem is away for a moment. Try again.',
  internal: 'Something went wrong on our side.',
}

/** A failed request. `message` is a sentence for a person. */
export class ApiError extends Error {
  readonly kind: FailureKind
  /** HTTP status; 0 when no answer came. */
  readonly status: number
  readonly fields: FieldProblem[]
  readonly requestId?: string
  readonly owner?: Problem['owner']

  constructor(status: number, problem: Problem = {}) {
    const kind = status === 0 ? 'offline' : (kinds[status] ?? 'internal')
    // The detail of an unforeseen failure never reaches a person, whatever the server wrote.
    const said = kind === 'internal' ? undefined : problem.detail || problem.title
    super(said || sentences[kind])
    this.name = 'ApiError'
    this.kind = kind
    this.status = status
    this.fields = problem.errors ?? []
    this.requestId = problem.request_id
    this.owner = problem.owner
  }

  /** Whether the same request may succeed later without any change. */
  get temporary(): boolean {
    return this.kind === 'offline' || this.kind === 'unavailable' || this.kind === 'throttled'
  }

  /** The message about one field, if the server named it. */
  field(name: string): string | undefined {
    return this.fields.find((f) => f.field === name)?.message
  }
}

/** The failure that a response and its parsed body tell of; a body that is not a problem is ignored. */
export function errorFrom(response: Response, body: unknown): ApiError {
  // A proxy's HTML page arrives as text and says nothing that a person could use.
  const problem: Problem = body && typeof body === 'object' ? { ...body } : {}
  problem.request_id ??= response.headers.get('X-Request-Id') ?? undefined
  return new ApiError(response.status, problem)
}

/** Turns anything thrown into an ApiError. */
export function asApiError(thrown: unknown): ApiError {
  if (thrown instanceof ApiError) return thrown
  // fetch rejects with a TypeError when no answer came.
  if (thrown instanceof TypeError) return new ApiError(0)
  return new ApiError(500)
}
