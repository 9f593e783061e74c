import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { axe } from './axe'
import { Harness } from './harness'

function must<T>(v: T | undefined): T {
  if (v === undefined) throw new Error('The answer lacks what the story needs.')
  return v
}

// The main job, from the outside: a lead comes in by webhook and a visitor writes in the chat
// widget. Each message is stored once, an AI member answers from the knowledge base, fills in
// the qualification, moves the lead and asks for a handoff; a person accepts it in the inbox
// and answers; the visitor sees it.
describe('the story', () => {
  let hub: Harness
  let desk: Page & { errors: string[] }

  beforeAll(async () => {
    hub = await Harness.start()
    desk = await hub.page()
    await hub.signIn(desk)
  })
  afterAll(() => hub?.stop())

  async function api<T>(path: string): Promise<T> {
    const res = await fetch(new URL(`/api/v1${path}`, hub.demo.url), {
      headers: { 'X-API-Key': hub.demo.api_key },
    })
    if (!res.ok) throw new Error(`${path}: ${res.status} ${await res.text()}`)
    return (await res.json()) as T
  }

  /** Asks until the answer is right; the story has no fixed times. */
  async function until<T>(what: string, ask: () => Promise<T>, right: (v: T) => boolean): Promise<T> {
    const end = Date.now() + 30_000
    for (;;) {
      const v = await ask()
      if (right(v)) return v
      if (Date.now() > end)
        throw new Error(`still not: ${what}\n${JSON.stringify(v, null, 1)}\n${hub.output}`)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }

  interface Message {
    seq: number
    kind: string
    direction: string
    text: string
    status: string
    sender: { kind: string; name: string }
    ai?: { sources: { title: string }[] }
  }
  const thread = async (id: string) =>
    (await api<{ items: Message[] }>(`/conversations/${id}/messages`)).items
  const fromAI = (items: Message[]) => items.filter((m) => m.sender.kind === 'ai' && m.kind === 'message')

  it('takes a lead by webhook once, however often it is sent, and answers it from the knowledge base', async () => {
    const lead = {
      title: 'Rooms for three sites',
      message: 'Hello, does Lumen work for several locations?',
      contact: { name: 'Ada Moreau', email: 'ada@moreau.example.com', company: 'Moreau Care' },
    }
    type Ids = Record<'contact' | 'lead' | 'conversation' | 'message', { id: string }> & {
      duplicate: boolean
    }
    const first = await hub.lead(lead, { 'Idempotency-Key': 'story-1' })
    expect(first.status).toBe(201)
    const repeats = await Promise.all(
      Array.from({ length: 10 }, () => hub.lead(lead, { 'Idempotency-Key': 'story-1' })),
    )
    const ids = first.body as Ids
    for (const r of repeats) {
      expect(r.status).toBe(200)
      expect(r.body).toEqual({ ...ids, duplicate: true })
    }
    const other = await hub.lead({ ...lead, message: 'Something else' }, { 'Idempotency-Key': 'story-1' })
    expect(other.status).toBe(422)

    const id = ids.conversation.id
    const items = await until(
      'an AI member has answered the lead',
      () => thread(id),
      (m) => fromAI(m).length > 0,
    )
    expect(items.filter((m) => m.direction === 'inbound')).toHaveLength(1)
    const answer = must(fromAI(items)[0])
    expect(answer.text).toMatch(/several locations/)
    expect(answer.ai?.sources.map((s) => s.title)).toContain('Several locations')

    await desk.getByRole('option', { name: /Ada Moreau/ }).click()
    await desk.locator('[data-voice=ai]', { hasText: 'several locations' }).first().waitFor()
  })

  /** Opens the chat unless it is open already, as it is after a reload. */
  async function open(shop: Page): Promise<void> {
    const launcher = shop.getByRole('button', { name: /^(Open|Close) the chat/ }).first()
    await launcher.waitFor()
    if (
      (await launcher.getAttribute('aria-expanded')) !== 'true' &&
      !(await shop.getByRole('dialog').isVisible())
    ) {
      await launcher.click()
    }
    await shop.getByRole('dialog').waitFor()
  }

  it('plays the visitor, the AI member, the handoff and the person through to the visitor', async () => {
    const shop = await hub.page({ width: 1100, height: 800 })
    await shop.goto('/demo')
    await open(shop)
    const box = shop.getByRole('textbox')
    const say = async (text: string) => {
      await box.fill(text)
      await box.press('Enter')
    }
    const log = shop.getByRole('log')

    await say('Hi, do you have a free trial?')
    await log.getByText(/30 days for free/).waitFor()
    const conv = await until(
      'the visitor has a conversation',
      () =>
        api<{ items: { id: string; lead: { id: string }; channel: { kind: string } }[] }>(
          '/conversations?limit=1',
        ),
      (p) => p.items[0]?.channel.kind === 'webchat',
    ).then((p) => must(p.items[0]))

    const answers = async (n: number) => {
      await until(
        `${n} answers`,
        () => thread(conv.id),
        (m) => fromAI(m).length >= n,
      )
    }
    await answers(1)
    await say('We need online booking for our two practices so that the phone rings less.')
    await answers(2)
    await say('I am the owner, I decide this myself.')
    await answers(3)
    await say('We have about 4,000 euros a year.')
    await answers(4)

    interface Lead {
      stage: { name: string }
      qualification: Record<string, { value: string; quote: string; author: { name: string } }>
    }
    // A reload in the middle: the visitor keeps the thread.
    await shop.reload()
    await open(shop)
    await log.getByText(/30 days for free/).waitFor()

    await say('We would like to start in two months.')
    const lead = await until(
      'the lead is qualified and moved',
      () => api<Lead>(`/leads/${conv.lead.id}`),
      (l) => l.stage.name === 'Qualified' && Object.keys(l.qualification).length === 4,
    )
    const { budget, authority } = lead.qualification
    expect(budget?.value).toMatch(/4,000/)
    expect(budget?.quote).toContain('4,000 euros')
    expect(authority?.author.name).toBe('Ava')

    // The inbox shows it live, with the handoff and its packet.
    await desk.getByText('Needs you', { exact: true }).first().click()
    const row = desk.getByRole('option', { name: /Visitor/ }).first()
    await row.waitFor()
    await row.click()
    const card = desk.getByRole('region', { name: /handoff/i })
    await card.getByRole('button', { name: 'Accept' }).waitFor()
    await axe(desk, 'A handoff')
    await hub.shot(desk, 'story-handoff')
    await card.getByRole('button', { name: 'Accept' }).click()
    await until(
      'the person owns the conversation',
      () =>
        api<{ owner: { kind: string; name: string } | null; handoff: unknown }>(`/conversations/${conv.id}`),
      (c) => c.owner?.kind === 'human' && c.handoff === null,
    )
    const again = await fetch(
      new URL(`/api/v1/handoffs/${(await handoffOf(conv.id)).id}/accept`, hub.demo.url),
      {
        method: 'POST',
        headers: { 'X-API-Key': hub.demo.api_key, 'Content-Type': 'application/json' },
        body: '{}',
      },
    )
    expect(again.status).toBe(409)

    const reply = desk.getByRole('textbox', { name: /reply/i })
    await reply.fill('Hello, Daniel here. I have set up a trial for both practices.')
    await reply.press('Control+Enter')
    await log.getByText('Daniel here. I have set up a trial').waitFor()
    await desk.locator('[data-voice=human]', { hasText: 'Daniel here' }).waitFor()
    await hub.shot(desk, 'story-answered')
    await hub.shot(shop, 'story-visitor')

    // Now a person answers: the AI member stays silent, whatever the visitor writes.
    const before = fromAI(await thread(conv.id)).length
    await say('Wonderful, what do I need to prepare?')
    await desk.getByRole('log').getByText('what do I need to prepare').waitFor()
    await until(
      'the visitor wrote last',
      () => thread(conv.id),
      (m) => m.some((x) => x.text.includes('prepare')),
    )
    await new Promise((resolve) => setTimeout(resolve, 1500))
    expect(fromAI(await thread(conv.id))).toHaveLength(before)

    // Handed back, she goes on with what waits for an answer.
    await desk.getByRole('button', { name: /Hand back to AI/ }).click()
    await until(
      'the AI member answers again',
      () => thread(conv.id),
      (m) => fromAI(m).length > before,
    )

    await desk.goto('/pipeline')
    await desk.getByRole('region', { name: 'Board' }).waitFor()
    await hub.shot(desk, 'story-board')
    expect(desk.errors).toEqual([])
    expect(shop.errors).toEqual([])

    async function handoffOf(conversation: string) {
      const page = await api<{ items: { id: string; conversation_id: string }[] }>('/handoffs?state=accepted')
      const found = page.items.find((h) => h.conversation_id === conversation)
      if (!found) throw new Error('The accepted handoff is not listed.')
      return found
    }
  })
})
