import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { axe } from './axe'
import { Harness } from './harness'

describe('the pages', () => {
  let hub: Harness
  beforeAll(async () => {
    hub = await Harness.start()
    const { status } = await hub.lead({
      title: 'Forty seats',
      message: 'Hello, could you send pricing for 40 seats?',
      external_id: 'pages-1',
      value: 3_840_000,
      currency: 'EUR',
      contact: { name: 'Amara Okafor', email: 'amara@northwind.example', company: 'Northwind Clinics' },
    })
    expect(status).toBe(201)
  })
  afterAll(() => hub?.stop())

  it('refuse a wrong password in words', async () => {
    const page = await hub.page()
    await page.goto('/')
    await page.getByLabel('Email').fill(hub.demo.email)
    await page.getByRole('textbox', { name: 'Password' }).fill('not the password')
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('alert').waitFor()
    expect(page.url()).toContain('/login')
    await axe(page, 'Login with an error')
  })

  const windows = [
    { name: 'light', dark: false },
    { name: 'dark', dark: true },
    { name: 'phone', dark: false, width: 390, height: 844 },
  ]
  it.each(windows)('are accessible and free of script errors: $name', async ({ name, ...options }) => {
    const page = await hub.page(options)
    await page.goto('/login')
    await axe(page, `Login, ${name}`)
    await hub.signIn(page)
    const row = page.getByRole('option', { name: /Amara Okafor/ })
    await row.waitFor()
    await axe(page, `Inbox list, ${name}`)
    await row.click()
    await page
      .getByRole('log')
      .getByText('Hello, could you send pricing for 40 seats?', { exact: true })
      .waitFor()
    await axe(page, `Thread, ${name}`)
    await hub.shot(page, `inbox-${name}`)
    await page.goto('/pipeline')
    await page.getByRole('button', { name: /Amara Okafor/ }).waitFor()
    await axe(page, `Pipeline, ${name}`)
    await hub.shot(page, `pipeline-${name}`)
    expect(page.errors).toEqual([])
  })

  it('follow the keyboard', async () => {
    const page = await hub.page()
    await hub.signIn(page)
    await page.getByRole('option').first().waitFor()
    await page.keyboard.press('j')
    await page.getByRole('log').waitFor()
    await page.keyboard.press('n')
    await page.keyboard.type('Only for us')
    await page.reload()
    await page.getByRole('log').waitFor()
    expect(await page.getByRole('textbox', { name: 'Internal note' }).inputValue()).toBe('Only for us')
    await page.getByRole('textbox', { name: 'Internal note' }).press('Control+Enter')
    await page.locator('[data-voice=note][data-status=noted]', { hasText: 'Only for us' }).waitFor()
    await page.keyboard.press('Escape')
    await page.keyboard.press('g')
    await page.keyboard.press('p')
    await page.getByRole('region', { name: 'Board' }).waitFor()
    await page.keyboard.press('Shift+?')
    await page.getByRole('dialog', { name: 'Keyboard shortcuts' }).waitFor()
    await axe(page, 'Help sheet')
  })
})
