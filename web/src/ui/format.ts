const minute = 60_000
const hour = 60 * minute
const day = 24 * hour

/** "now", "4m", "3h", "2d", then a date such as "12 Mar". */
export function ago(iso: string, now: number = Date.now()): string {
  const at = Date.parse(iso)
  if (Number.isNaN(at)) return ''
  const gone = now - at
  if (gone < minute) return 'now'
  if (gone < hour) return `${Math.floor(gone / minute)}m`
  if (gone < day) return `${Math.floor(gone / hour)}h`
  if (gone < 7 * day) return `${Math.floor(gone / day)}d`
  return new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' }).format(at)
}

/** "less than a minute", "4 min", "2 h", "3 days", for waiting times. */
export function duration(milliseconds: number): string {
  if (milliseconds < minute) return 'less than a minute'
  if (milliseconds < hour) return `${Math.floor(milliseconds / minute)} min`
  if (milliseconds < day) return `${Math.floor(milliseconds / hour)} h`
  const days = Math.floor(milliseconds / day)
  return days === 1 ? '1 day' : `${days} days`
}

/** The wall clock time of the viewer, such as 09:06. */
export function clock(iso: string): string {
  const at = Date.parse(iso)
  if (Number.isNaN(at)) return ''
  return new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(
    at,
  )
}

/** Date and time in full, for tooltips and details. */
export function full(iso: string): string {
  const at = Date.parse(iso)
  if (Number.isNaN(at)) return ''
  return new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' }).format(at)
}

/** "Today", "Yesterday", or the date, for the line between two days of a thread. */
export function dayName(iso: string, now: Date = new Date()): string {
  const at = new Date(iso)
  const start = (d: Date) => new Date(d.getFullYear(), d.getMonth(), d.getDate()).getTime()
  const days = Math.round((start(now) - start(at)) / day)
  if (days === 0) return 'Today'
  if (days === 1) return 'Yesterday'
  const sameYear = at.getFullYear() === now.getFullYear()
  return new Intl.DateTimeFormat(undefined, {
    weekday: 'short',
    day: 'numeric',
    month: 'short',
    year: sameYear ? undefined : 'numeric',
  }).format(at)
}

function minorDigits(currency: string): number {
  try {
    return (
      new Intl.NumberFormat('en', { style: 'currency', currency }).resolvedOptions().maximumFractionDigits ??
      2
    )
  } catch {
    return 2
  }
}

/** Minor units to text: 3840000 EUR is "€38.4k" when short, "€38,400.00" otherwise. */
export function money(minor: number, currency: string, short = false): string {
  const amount = minor / 10 ** minorDigits(currency)
  try {
    return new Intl.NumberFormat('en', {
      style: 'currency',
      currency,
      ...(short
        ? { notation: 'compact', minimumFractionDigits: 0, maximumFractionDigits: 1 }
        : amount % 1 === 0 && { maximumFractionDigits: 0 }),
    })
      .format(amount)
      .replace('K', 'k')
  } catch {
    return `${amount} ${currency}`
  }
}
