import { Button, Popover, Textarea } from '@mantine/core'
import { type ReactNode, useState } from 'react'
import s from './inbox.module.css'

interface TakeOverProps {
  /** The teammate who owns it now; taking over from a person needs a reason. */
  fromPerson?: string
  pending: boolean
  onTake: (reason?: string) => void
  icon: ReactNode
}

/** "Take over": at once from an AI member or from nobody, with a reason from a teammate. */
export function TakeOverButton({ fromPerson, pending, onTake, icon }: TakeOverProps) {
  const [asking, setAsking] = useState(false)
  const [reason, setReason] = useState('')
  if (!fromPerson) {
    return (
      <Button leftSection={icon} loading={pending} onClick={() => onTake()}>
        Take over
      </Button>
    )
  }
  return (
    <Popover opened={asking} onChange={setAsking} position="bottom-end" width={280} trapFocus withRoles>
      <Popover.Target>
        <Button leftSection={icon} variant="default" loading={pending} onClick={() => setAsking(!asking)}>
          Take over
        </Button>
      </Popover.Target>
      <Popover.Dropdown aria-label={`Take over from ${fromPerson}`}>
        <form
          className={s.ask}
          onSubmit={(event) => {
            event.preventDefault()
            if (!reason.trim()) return
            setAsking(false)
            onTake(reason.trim())
          }}
        >
          <Textarea
            label={`Why take over from ${fromPerson}?`}
            description="The reason is kept with the conversation."
            size="xs"
            autosize
            minRows={2}
            maxRows={6}
            data-autofocus
            value={reason}
            onChange={(event) => setReason(event.currentTarget.value)}
          />
          <Button type="submit" disabled={!reason.trim()}>
            Take over
          </Button>
        </form>
      </Popover.Dropdown>
    </Popover>
  )
}
