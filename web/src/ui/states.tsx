import { Button } from '@mantine/core'
import { IconAlertTriangle, IconLock, IconRefresh } from '@tabler/icons-react'
import { type ReactNode, useEffect, useState } from 'react'
import { asApiError } from '../api/errors'
import s from './states.module.css'

/** True once `active` has lasted 150 ms: what is quick never flashes a skeleton. */
export function useSlow(active: boolean, after = 150): boolean {
  const [slow, setSlow] = useState(false)
  useEffect(() => {
    if (!active) {
      setSlow(false)
      return
    }
    const timer = setTimeout(() => setSlow(true), after)
    return () => clearTimeout(timer)
  }, [active, after])
  return slow
}

/** A grey bar in place of text that is still loading. */
export function Bone({ width, height = 10 }: { width: number | string; height?: number }) {
  return <div className={s.bone} style={{ width, height }} />
}

/** Rows of the exact height that the list will have. Shows nothing for the first 150 ms. */
export function SkeletonRows({
  count = 8,
  height = 72,
  face = true,
}: {
  count?: number
  height?: number
  face?: boolean
}) {
  const slow = useSlow(true)
  return (
    <div className={s.rows} role="status" aria-label="Loading">
      {slow &&
        Array.from({ length: count }, (_, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: the rows are all alike and never move
          <div key={i} className={s.row} style={{ height }}>
            {face && <div className={s.bone} style={{ width: 34, height: 34, borderRadius: '50%' }} />}
            <div className={s.lines}>
              <Bone width={`${45 + ((i * 17) % 30)}%`} />
              <Bone width={`${65 + ((i * 23) % 30)}%`} />
            </div>
          </div>
        ))}
    </div>
  )
}

/** One sentence that says what will appear here, and at most one action. */
export function EmptyState({
  icon,
  children,
  action,
}: {
  icon?: ReactNode
  children: ReactNode
  action?: ReactNode
}) {
  return (
    <div className={s.box}>
      {icon}
      <p>{children}</p>
      {action}
    </div>
  )
}

/** What failed, the request id for support, and "Try again". A missing permission says who can grant it. */
export function ErrorState({ what, error, retry }: { what: string; error: unknown; retry?: () => void }) {
  const failure = asApiError(error)
  const forbidden = failure.kind === 'forbidden'
  return (
    <div className={s.box} role="alert">
      {forbidden ? (
        <IconLock size={22} color="var(--t-3)" aria-hidden />
      ) : (
        <IconAlertTriangle size={22} color="var(--bad)" aria-hidden />
      )}
      <p>
        {!forbidden && <b>{what} </b>}
        {failure.message}
      </p>
      {failure.requestId && <span className={s.id}>Request {failure.requestId}</span>}
      {retry && !forbidden && (
        <Button variant="default" leftSection={<IconRefresh size={14} aria-hidden />} onClick={retry}>
          Try again
        </Button>
      )}
    </div>
  )
}
