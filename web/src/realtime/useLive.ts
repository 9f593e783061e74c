import { useQueryClient } from '@tanstack/react-query'
import { useEffect } from 'react'
import { keys } from '../api/queries'
import { Applier } from './apply'
import { presence } from './presence'
import { openStream } from './stream'

/** Keeps the live stream open while the signed-in shell is shown. */
export function useLive(myId: string): void {
  const cache = useQueryClient()
  useEffect(() => {
    const applier = new Applier(cache, myId)
    const close = openStream({
      onFact: (event) => applier.fact(event),
      onTyping: (event) => presence.typing(event),
      onResync: () => applier.resync(),
      onState: (open) => presence.streamState(open),
      // Any call tells whether the session still holds; a 401 leads to the sign-in page.
      onRefused: () => void cache.refetchQueries({ queryKey: keys.counts }),
    })
    return () => {
      close()
      applier.close()
    }
  }, [cache, myId])
}
