import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

/** What `tandem demo` writes to demo.json. */
export interface Demo {
  url: string
  org: string
  email: string
  password: string
  api_key: string
  widget_key: string
  human_member: string
  ai_member: string
}

const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** How long the binary may take to start with a fresh database. Milliseconds. */
const startPatience = 120_000
/** How long it may take to stop by itself before it is killed. Milliseconds. */
const stopPatience = 20_000
/** How much of the server's output is kept for the report of a failure. Characters. */
const logKept = 20_000

/** The hub and a browser, started for one test file and gone after `stop`. */
export class Harness {
  private log = ''
  private stopped = false
  private readonly contexts: BrowserContext[] = []

  private constructor(
    readonly demo: Demo,
    readonly dataDir: string,
    private readonly server: ChildProcess,
    private readonly browser: Browser,
    private readonly onExit: () => void,
  ) {}

  /**
   * Starts the binary named by TANDEM_BIN in a temporary data folder on a free port, without
   * simulated customers, and Chromium. Whatever fails, nothing that was started is left behind.
   */
  static async start(args: string[] = ['--quiet']): Promise<Harness> {
    const bin = process.env.TANDEM_BIN
    if (!bin || !existsSync(bin)) throw new Error('Set TANDEM_BIN to the built tandem program.')
    const dataDir = await mkdtemp(join(tmpdir(), 'tandem-e2e-'))
    await chmod(dataDir, 0o755) // run by root, the database belongs to another user
    const port = await freePort()
    // A group of its own, so that the database below it goes too.
    const server = spawn(bin, ['demo', '--data', dataDir, '--http', `127.0.0.1:${port}`, ...args], {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const killNow = () => killGroup(server, 'SIGKILL')
    process.once('exit', killNow)

    let log = ''
    let harness: Harness | undefined
    const note = (chunk: Buffer) => {
      log = (log + chunk.toString()).slice(-logKept)
      if (harness) harness.log = log
    }
    server.stdout?.on('data', note)
    server.stderr?.on('data', note)

    let browser: Browser | undefined
    try {
      const demo = await waitForDemo(server, dataDir, () => log)
      browser = await chromium.launch({ executablePath: chromiumPath(), args: flags })
      harness = new Harness(demo, dataDir, server, browser, killNow)
      harness.log = log
      return harness
    } catch (thrown) {
      await browser?.close()
      await stopServer(server)
      process.removeListener('exit', killNow)
      await rm(dataDir, { recursive: true, force: true })
      throw thrown
    }
  }

  /** The last lines that the server wrote. */
  get output(): string {
    return this.log
  }

  /** A fresh browser profile. Errors of the page's own scripts fail the test through `errors`. */
  async page(
    options: { width?: number; height?: number; dark?: boolean } = {},
  ): Promise<Page & { errors: string[] }> {
    const context = await this.browser.newContext({
      baseURL: this.demo.url,
      viewport: { width: options.width ?? 1440, height: options.height ?? 900 },
      colorScheme: options.dark ? 'dark' : 'light',
    })
    this.contexts.push(context)
    const page = Object.assign(await context.newPage(), { errors: [] as string[] })
    page.on('pageerror', (error) => page.errors.push(error.message))
    page.setDefaultTimeout(20_000)
    return page
  }

  /** Signs the demo's person in and waits for the inbox. */
  async signIn(page: Page): Promise<void> {
    await page.goto(new URL('/login', this.demo.url).href)
    await page.getByLabel('Email').fill(this.demo.email)
    await page.getByRole('textbox', { name: 'Password' }).fill(this.demo.password)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await page.getByRole('navigation', { name: 'Main' }).waitFor()
  }

  /** Sends a lead to the inbound webhook with the demo's API key. */
  async lead(
    body: unknown,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; body: unknown }> {
    const response = await fetch(new URL('/api/v1/inbound/lead', this.demo.url), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-API-Key': this.demo.api_key, ...headers },
      body: JSON.stringify(body),
    })
    return { status: response.status, body: await response.json() }
  }

  /** Takes a picture into e2e/shots (or SHOTS_DIR) to look at. */
  async shot(page: Page, name: string): Promise<void> {
    const dir = process.env.SHOTS_DIR ?? new URL('shots', import.meta.url).pathname
    await mkdir(dir, { recursive: true })
    await page.screenshot({ path: join(dir, `${name}.png`) })
  }

  /** Stops the browser and the server, waits until both are gone, and removes the data. */
  async stop(): Promise<void> {
    if (this.stopped) return
    this.stopped = true
    await Promise.allSettled(this.contexts.map((c) => c.close()))
    await this.browser.close().catch(() => {})
    await stopServer(this.server)
    process.removeListener('exit', this.onExit)
    await rm(this.dataDir, { recursive: true, force: true })
  }
}

function chromiumPath(): string {
  const wanted = process.env.CHROMIUM
  const known = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
  const found = wanted ?? known.find((path) => existsSync(path))
  if (!found) throw new Error('Chromium was not found. Install it, or set CHROMIUM to its path.')
  return found
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => {
        if (address && typeof address === 'object') resolve(address.port)
        else reject(new Error('The system gave no free port.'))
      })
    })
  })
}

/** Waits until demo.json is written and the server says that it is ready. */
async function waitForDemo(server: ChildProcess, dataDir: string, log: () => string): Promise<Demo> {
  const path = join(dataDir, 'demo.json')
  const end = Date.now() + startPatience
  while (Date.now() < end) {
    if (server.exitCode !== null || server.signalCode !== null) {
      throw new Error(`tandem ended before it was ready.\n${log()}`)
    }
    if (existsSync(path)) {
      try {
        const demo = JSON.parse(await readFile(path, 'utf8')) as Demo
        const ready = await fetch(new URL('/readyz', demo.url))
        if (ready.ok) return demo
      } catch {
        // Half-written, or not listening yet.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  throw new Error(`tandem was not ready after ${startPatience / 1000} s.\n${log()}`)
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (!child.pid) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // Gone already.
  }
}

async function stopServer(server: ChildProcess): Promise<void> {
  if (server.exitCode === null && server.signalCode === null) {
    const gone = new Promise<void>((resolve) => server.once('exit', () => resolve()))
    // Only the program itself: it stops its database in order, as after Ctrl-C.
    server.kill('SIGTERM')
    const late = setTimeout(() => killGroup(server, 'SIGKILL'), stopPatience)
    await gone
    clearTimeout(late)
  }
  killGroup(server, 'SIGKILL')
}
