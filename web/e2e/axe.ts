import AxeBuilder from '@axe-core/playwright'
import type { Page } from 'playwright-core'

const rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']

/** Checks a page against WCAG 2.2 A and AA and throws a list of what is wrong and where. */
export async function axe(page: Page, where: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).withTags(rules).analyze()
  if (violations.length === 0) return
  const lines = violations.flatMap((v) => [
    `${v.id}: ${v.help}`,
    ...v.nodes.map((n) => `  ${n.target.join(' ')}  ${n.any[0]?.message ?? ''}`),
  ])
  throw new Error(`${where} has accessibility faults:\n${lines.join('\n')}`)
}
