import { useSyncExternalStore } from 'react'
import type { MemberRef, TypingEvent } from '../api/types'

/** Who writes in which conversation, and whether the live stream is up. Kept outside the query cache. */
export interface Typist {
  kind: 'contact' | MemberRef['kind']
  name: string
}

const none: readonly Typist[] = []

class Presence {
  private readonly listeners = new Set<() => void>()
  private readonly writing = new Map<string, Map<string, Typist>>()
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>()
  private readonly snapshots = new Map<string, readonly Typist[]>()
  private lost = false
  private lostTimer?: ReturnType<typeof setTimeout>

  subscribe = (listener: () => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Whether the stream has been away for more than five seconds. */
  isLost = () => this.lost

  streamState(open: boolean, patience = 5_000) {
    if (open) {
      clearTimeout(this.lostTimer)
      this.lostTimer = undefined
      this.setLost(false)
    } else {
      this.lostTimer ??= setTimeout(() => this.setLost(true), patience)
    }
  }

  typists = (conversationId: string) => this.snapshots.get(conversationId) ?? none

  typing(event: TypingEvent, now = Date.now()) {
    const contact = event.member === 'contact'
    const who = event.member === 'contact' ? 'contact' : event.member.id
    const typist: Typist =
      event.member === 'contact'
        ? { kind: 'contact', name: '' }
        : { kind: event.member.kind, name: event.member.name }
    const left = Math.min(Date.parse(event.until) - now, 60_000)
    if (!(left > 0)) {
      this.stop(event.conversation_id, who)
      return
    }
    const key = `${event.conversation_id} ${contact ? 'contact' : who}`
    clearTimeout(this.timers.get(key))
    this.timers.set(
      key,
      setTimeout(() => this.stop(event.conversation_id, who), left),
    )
    const here = this.writing.get(event.conversation_id) ?? new Map<string, Typist>()
    here.set(who, typist)
    this.writing.set(event.conversation_id, here)
    this.publish(event.conversation_id)
  }

  /** Ends a typing sign: its time is over, or the message has come. */
  stop(conversationId: string, who: string) {
    const here = this.writing.get(conversationId)
    if (!here?.delete(who)) return
    clearTimeout(this.timers.get(`${conversationId} ${who}`))
    this.publish(conversationId)
  }

  private publish(conversationId: string) {
    this.snapshots.set(conversationId, [...(this.writing.get(conversationId)?.values() ?? [])])
    this.tell()
  }

  private setLost(lost: boolean) {
    if (this.lost === lost) return
    this.lost = lost
    this.tell()
  }

  private tell() {
    for (const listener of this.listeners) listener()
  }
}

export const presence = new Presence()

export function useStreamLost(): boolean {
  return useSyncExternalStore(presence.subscribe, presence.isLost)
}

export function useTypists(conversationId: string): readonly Typist[] {
  return useSyncExternalStore(presence.subscribe, () => presence.typists(conversationId))
}
