import type { Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { axe } from './axe'
import { Harness } from './harness'

describe('the documentation of the API', () => {
  let hub: Harness
  beforeAll(async () => {
    hub = await Harness.start()
  })
  afterAll(() => hub?.stop())

  /** Opens the page with every request to another origin refused, and remembers them and what the policy refused. */
  async function open(options: { dark?: boolean; width?: number; height?: number } = {}) {
    const page = await hub.page(options)
    page.setDefaultTimeout(60_000) // the viewer draws some hundred operations at once
    const foreign: string[] = []
    const refused: string[] = []
    await page.route('**/*', (route) => {
      const url = new URL(route.request().url())
      if (url.origin === hub.demo.url || url.protocol === 'data:') return route.continue()
      foreign.push(url.href)
      return route.abort()
    })
    page.on('console', (message) => {
      if (message.text().includes('Content Security Policy')) refused.push(message.text())
    })
    return { page, foreign, refused }
  }

  const operation = (page: Page, name: string) => page.locator('.opblock', { hasText: name }).first()

  const windows = [
    { name: 'light', dark: false },
    { name: 'dark', dark: true },
    { name: 'phone', dark: false, width: 390, height: 844 },
  ]
  it.each(windows)(
    'shows every operation and leaves the origin for nothing: $name',
    async ({ name, ...options }) => {
      const { page, foreign, refused } = await open(options)
      const answer = await page.goto('/docs')
      expect(answer?.headers()['content-security-policy']).not.toContain('unsafe')
      await page.getByRole('heading', { name: /^Tandem 1/ }).waitFor()
      const described = (await (await fetch(new URL('/api/v1/openapi.json', hub.demo.url))).json()) as {
        tags: { name: string }[]
      }
      for (const tag of described.tags) await page.locator(`[id="operations-tag-${tag.name}"]`).waitFor()
      await axe(page, `Documentation, ${name}`)
      await hub.shot(page, `docs-${name}`)

      // One opens by the keyboard and shows what is asked for and answered.
      const tag = page.locator('[id="operations-tag-leads"] button').last()
      await tag.focus()
      await page.keyboard.press('Enter')
      const post = operation(page, 'Add a lead')
      await post.getByRole('button').first().focus()
      await page.keyboard.press('Enter')
      await post.getByText('Two racks for the lab').first().waitFor()
      await post.scrollIntoViewIfNeeded()
      await axe(page, `An operation, ${name}`)
      await hub.shot(page, `docs-operation-${name}`)
      expect(
        await page.evaluate(() => document.documentElement.scrollWidth - innerWidth),
      ).toBeLessThanOrEqual(0)
      expect(foreign).toEqual([])
      expect(refused).toEqual([])
      expect(page.errors).toEqual([])
    },
  )

  it('calls the API as whoever is signed in', async () => {
    const { page, foreign } = await open()
    await hub.signIn(page)
    await page.goto('/docs')
    await page.locator('[id="operations-tag-me"] button').last().click()
    const me = operation(page, 'Who is signed in')
    await me.getByRole('button').first().click()
    await me.getByRole('button', { name: 'Try it out' }).click()
    await me.getByRole('button', { name: 'Execute' }).click()
    await me.locator('.live-responses-table').getByText(hub.demo.email).first().waitFor()
    expect(foreign).toEqual([])
  })

  it('says when the description cannot be loaded, and tries again', async () => {
    const { page } = await open()
    let away = true
    await page.route('**/api/v1/openapi.json', (route) =>
      away ? route.fulfill({ status: 503, body: '' }) : route.continue(),
    )
    await page.goto('/docs')
    await page.getByRole('alert').getByText('could not be loaded').waitFor()
    await axe(page, 'Documentation without a description')
    away = false
    await page.getByRole('button', { name: 'Try again' }).click()
    await page.getByRole('heading', { name: /^Tandem 1/ }).waitFor()
  })
})
