import { MantineProvider } from '@mantine/core'
import { QueryClient, QueryClientProvider } from '@tanstack/react-query'
import { fireEvent, render, screen, waitFor } from '@testing-library/react'
import { createRef } from 'react'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { keys } from '../../api/queries'
import { meQuery } from '../../api/session'
import type { Conversation, Me, Message } from '../../api/types'
import { type Pages, threadOf } from '../../realtime/merge'
import { conversation, message } from '../../test/records'
import { Composer, type ComposerHandle } from './Composer'

const me: Me = {
  member: { id: 'dan', kind: 'human', name: 'Daniel', title: '', role: 'agent' },
  org: { id: 'o', name: 'Lumen', currency: 'EUR' },
  permissions: ['conversation:read', 'conversation:reply'],
}
const mine = { id: 'dan', kind: 'human', name: 'Daniel' } as const

describe('Composer', () => {
  let cache: QueryClient
  const requests: { path: string; key: string | null; body: unknown }[] = []
  let reply: (body: { text: string }) => Response

  beforeEach(() => {
    requests.length = 0
    cache = new QueryClient({ defaultOptions: { queries: { retry: false } } })
    cache.setQueryData(keys.messages('c'), {
      pages: [{ items: [message('m1', 1)] }],
      pageParams: [undefined],
    })
    vi.stubGlobal('fetch', async (request: Request) => {
      const path = new URL(request.url, 'http://localhost').pathname
      const body = (await request.json()) as { text: string }
      if (!path.endsWith('/typing'))
        requests.push({ path, key: request.headers.get('Idempotency-Key'), body })
      return path.endsWith('/typing') ? new Response(null, { status: 204 }) : reply(body)
    })
  })
  afterEach(() => void vi.unstubAllGlobals())

  function show(c: Conversation, as: Me = me) {
    cache.setQueryData(meQuery.queryKey, as)
    const ref = createRef<ComposerHandle>()
    render(
      <QueryClientProvider client={cache}>
        <MantineProvider env="test">
          <Composer ref={ref} conversation={c} />
        </MantineProvider>
      </QueryClientProvider>,
    )
  }
  const thread = () => threadOf(cache.getQueryData<Pages<Message>>(keys.messages('c')))
  const field = () => screen.getByRole('textbox')
  const write = (text: string) => fireEvent.change(field(), { target: { value: text } })

  it('shows a reply at once, sends it with our fence, and puts the stored one in its place', async () => {
    reply = ({ text }) =>
      Response.json(message('m2', 2, { text, direction: 'outbound', sender: mine, status: 'queued' }), {
        status: 201,
      })
    show(conversation('c', { owner: mine, fence: 7 }))
    write('Hello Amara')
    fireEvent.keyDown(field(), { key: 'Enter', ctrlKey: true })
    await waitFor(() => expect(thread().at(-1)).toMatchObject({ text: 'Hello Amara', status: 'sending' }))
    expect(field()).toHaveProperty('value', '')
    await waitFor(() => expect(thread().at(-1)).toMatchObject({ id: 'm2', status: 'queued' }))
    expect(thread()).toHaveLength(2)
    expect(requests[0]?.body).toEqual({ kind: 'message', text: 'Hello Amara', fence: 7 })
    expect(requests[0]?.key).toMatch(/^[0-9a-f-]{36}$/)
  })

  it('keeps a failed reply in the thread, marked', async () => {
    reply = () => Response.json({ detail: 'Rita answers this conversation.' }, { status: 409 })
    show(conversation('c'))
    write('Hello')
    fireEvent.click(screen.getByRole('button', { name: 'Send' }))
    await waitFor(() =>
      expect(thread().at(-1)).toMatchObject({ status: 'unsent', error: 'Rita answers this conversation.' }),
    )
    expect(requests[0]?.body).toEqual({ kind: 'message', text: 'Hello' })
  })

  it('never mixes a note with a reply', () => {
    show(conversation('c'))
    write('For Amara')
    fireEvent.click(screen.getByRole('radio', { name: 'Internal note' }))
    expect(field()).toHaveProperty('value', '')
    write('For the team')
    fireEvent.click(screen.getByRole('radio', { name: 'Reply' }))
    expect(field()).toHaveProperty('value', 'For Amara')
  })

  it('does not let two people answer', () => {
    show(conversation('c', { owner: { id: 'rita', kind: 'human', name: 'Rita' } }))
    expect(field()).toHaveProperty('disabled', true)
    fireEvent.click(screen.getByRole('radio', { name: 'Internal note' }))
    expect(field()).toHaveProperty('disabled', false)
  })

  it('says who can grant the missing permission', () => {
    show(conversation('c'), { ...me, permissions: ['conversation:read'] })
    expect(screen.queryByRole('textbox')).toBeNull()
    expect(screen.getByText(/An owner of your organization can grant/)).toBeTruthy()
  })
})
