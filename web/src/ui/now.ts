import { useEffect, useState } from 'react'

/** The time now, in milliseconds, renewed often enough for "4m" to stay true. */
export function useNow(every = 30_000): number {
  const [now, setNow] = useState(Date.now)
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), every)
    return () => clearInterval(timer)
  }, [every])
  return now
}
