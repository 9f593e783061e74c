import { ActionIcon, Button, Drawer, Menu, Tooltip } from '@mantine/core'
import {
  IconArrowLeft,
  IconCircleCheck,
  IconDots,
  IconInfoCircle,
  IconRotate,
  IconSparkles,
  IconUserCheck,
} from '@tabler/icons-react'
import { useQueryClient } from '@tanstack/react-query'
import { useEffect, useRef, useState } from 'react'
import { answer, api } from '../../api/client'
import { may, useMe } from '../../api/session'
import type { Conversation as Record } from '../../api/types'
import { useShortcuts } from '../../keys/registry'
import { putConversation } from '../../realtime/apply'
import { channelLabel } from '../../ui/ChannelIcon'
import { PageBar, Spring } from '../../ui/PageBar'
import { Person } from '../../ui/Person'
import { useWide } from '../../ui/width'
import { LeadPane } from '../lead/LeadPane'
import { useConversationActions } from './actions'
import { Composer, type ComposerHandle } from './Composer'
import { HandoffCard } from './HandoffCard'
import s from './inbox.module.css'
import { TakeOverButton } from './TakeOverButton'
import { Thread } from './Thread'

interface ConversationProps {
  conversation: Record
  /** On phones: back to the list. */
  onBack?: () => void
  /** Whether the right pane stands beside it; else it opens as a slide-over. */
  hasPane: boolean
}

/** The middle pane: who it is and who owns it, the thread, the composer. */
export function Conversation({ conversation: c, onBack, hasPane }: ConversationProps) {
  const [details, setDetails] = useState(false)
  const composer = useRef<ComposerHandle>(null)
  useRead(c)
  useShortcuts({
    reply: (event) => {
      event.preventDefault()
      composer.current?.focus('reply')
    },
    note: (event) => {
      event.preventDefault()
      composer.current?.focus('note')
    },
  })

  return (
    <>
      <PageBar>
        {onBack && (
          <ActionIcon aria-label="Back to the list" onClick={onBack}>
            <IconArrowLeft size={18} aria-hidden />
          </ActionIcon>
        )}
        <Person name={c.contact.name} size={28} />
        <div className={s.barText}>
          <h2>{c.contact.name}</h2>
          <div>{[c.contact.company, ownership(c)].filter(Boolean).join(' · ')}</div>
        </div>
        <Spring />
        <OwnershipButtons conversation={c} />
        {!hasPane && (
          <Tooltip label="Lead details">
            <ActionIcon aria-label="Lead details" onClick={() => setDetails(true)}>
              <IconInfoCircle size={17} aria-hidden />
            </ActionIcon>
          </Tooltip>
        )}
        <MoreMenu conversation={c} />
      </PageBar>
      <Thread conversation={c} />
      {!hasPane && c.handoff && (
        <div className={s.inlineHandoff}>
          <HandoffCard key={c.handoff.id} conversation={c} handoffId={c.handoff.id} compact />
        </div>
      )}
      <Composer ref={composer} conversation={c} />
      <Drawer
        opened={details && !hasPane}
        onClose={() => setDetails(false)}
        position="right"
        size={360}
        title="Lead details"
        closeButtonProps={{ 'aria-label': 'Close' }}
        padding={0}
        styles={{ header: { padding: '8px 16px' } }}
      >
        <LeadPane conversation={c} />
      </Drawer>
    </>
  )
}

function ownership(c: Record): string {
  if (c.state === 'resolved') return 'resolved'
  if (!c.owner) return `nobody answers yet, ${channelLabel(c.channel.kind)}`
  return `${c.owner.name} answers by ${channelLabel(c.channel.kind).toLowerCase()}`
}

function OwnershipButtons({ conversation: c }: { conversation: Record }) {
  const me = useMe()
  const roomy = useWide(1000)
  const { takeOver, handToAI } = useConversationActions(c)
  const ai = c.owner && c.owner.kind !== 'human'
  return (
    <>
      {!ai &&
        may(me, 'conversation:claim') &&
        (roomy ? (
          <Button
            variant="default"
            leftSection={<IconSparkles size={14} color="var(--v-ai)" aria-hidden />}
            loading={handToAI.isPending}
            onClick={() => handToAI.mutate()}
          >
            Hand back to AI
          </Button>
        ) : (
          <Tooltip label="Hand back to AI">
            <ActionIcon
              variant="default"
              aria-label="Hand back to AI"
              loading={handToAI.isPending}
              onClick={() => handToAI.mutate()}
            >
              <IconSparkles size={15} color="var(--v-ai)" aria-hidden />
            </ActionIcon>
          </Tooltip>
        ))}
      {c.owner?.id !== me.member.id && may(me, 'conversation:takeover') && (
        <TakeOverButton
          fromPerson={c.owner?.kind === 'human' ? c.owner.name : undefined}
          pending={takeOver.isPending}
          onTake={(reason) => takeOver.mutate(reason)}
          icon={<IconUserCheck size={14} aria-hidden />}
        />
      )}
    </>
  )
}

function MoreMenu({ conversation: c }: { conversation: Record }) {
  const me = useMe()
  const { resolve, reopen } = useConversationActions(c)
  if (!may(me, 'conversation:claim')) return null
  const ended = c.state === 'resolved' || c.state === 'spam'
  return (
    <Menu position="bottom-end">
      <Menu.Target>
        <ActionIcon aria-label="More actions">
          <IconDots size={16} aria-hidden />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        {ended ? (
          <Menu.Item leftSection={<IconRotate size={14} aria-hidden />} onClick={() => reopen.mutate()}>
            Reopen the conversation
          </Menu.Item>
        ) : (
          <Menu.Item leftSection={<IconCircleCheck size={14} aria-hidden />} onClick={() => resolve.mutate()}>
            Resolve the conversation
          </Menu.Item>
        )}
      </Menu.Dropdown>
    </Menu>
  )
}

/** Marks a conversation read while it is open in a visible window. */
function useRead(c: Record) {
  const cache = useQueryClient()
  const me = useMe()
  useEffect(() => {
    if (c.unread === 0) return
    let over = false
    const read = () => {
      if (over || document.visibilityState !== 'visible') return
      over = true
      putConversation(cache, { ...c, unread: 0 }, me.member.id)
      // A number that could not be cleared comes back with the next fact; nobody has to be told.
      answer(api.POST('/conversations/{id}/read', { params: { path: { id: c.id } }, body: {} })).catch(
        () => {},
      )
    }
    read()
    document.addEventListener('visibilitychange', read)
    return () => document.removeEventListener('visibilitychange', read)
  }, [c, cache, me.member.id])
}
