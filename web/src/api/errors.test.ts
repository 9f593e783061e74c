import { describe, expect, it, vi } from 'vitest'
import { answer, api } from './client'
import { ApiError, asApiError, errorFrom } from './errors'

const failed = (status: number, headers?: HeadersInit) => new Response(null, { status, headers })

describe('errorFrom', () => {
  it.each([
    [401, 'unauthenticated', false],
    [403, 'forbidden', false],
    [404, 'not_found', false],
    [409, 'conflict', false],
    [422, 'invalid', false],
    [429, 'throttled', true],
    [503, 'unavailable', true],
    [500, 'internal', false],
    [418, 'internal', false],
  ])('%i is %s', (status, kind, temporary) => {
    const e = errorFrom(failed(status), {})
    expect(e.kind).toBe(kind)
    expect(e.temporary).toBe(temporary)
    expect(e.message).not.toBe('')
  })

  it('carries the sentence, the fields, the owner and the request id', () => {
    const e = errorFrom(failed(409), {
      title: 'Conflict',
      detail: 'Rita has accepted this handoff.',
      errors: [{ field: 'reason', message: 'Say why.' }],
      owner: { id: 'r', kind: 'human', name: 'Rita' },
      request_id: 'req-1',
    })
    expect(e.message).toBe('Rita has accepted this handoff.')
    expect(e.field('reason')).toBe('Say why.')
    expect(e.owner?.name).toBe('Rita')
    expect(e.requestId).toBe('req-1')
  })

  it('never shows the detail of an unforeseen failure, and reads the request id from the header', () => {
    const e = errorFrom(failed(500, { 'X-Request-Id': 'req-2' }), {
      detail: 'pq: relation "x" does not exist',
    })
    expect(e.message).toBe('Something went wrong on our side.')
    expect(e.requestId).toBe('req-2')
  })

  it('ignores a page of a proxy', () => {
    expect(errorFrom(failed(502), '<html>').message).toBe('Tandem is away for a moment. Try again.')
  })
})

describe('answer', () => {
  it('throws the problem that the server wrote', async () => {
    vi.stubGlobal('fetch', async () =>
      Response.json(
        { detail: 'You need the permission "lead:read" for this.', request_id: 'req-3' },
        { status: 403, headers: { 'Content-Type': 'application/problem+json' } },
      ),
    )
    const thrown = await answer(api.GET('/me')).catch((e: unknown) => e)
    vi.unstubAllGlobals()
    expect(thrown).toBeInstanceOf(ApiError)
    expect(thrown).toMatchObject({ kind: 'forbidden', requestId: 'req-3' })
    expect((thrown as ApiError).message).toContain('lead:read')
  })

  it('says that nothing can be reached when no answer comes', async () => {
    vi.stubGlobal('fetch', async () => {
      throw new TypeError('Failed to fetch')
    })
    const thrown = await answer(api.GET('/me')).catch((e: unknown) => e)
    vi.unstubAllGlobals()
    expect(thrown).toMatchObject({ kind: 'offline', status: 0, temporary: true })
  })

  it('takes anything else for internal', () => {
    expect(asApiError(new Error('bug')).kind).toBe('internal')
  })
})
