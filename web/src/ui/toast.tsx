import { Button } from '@mantine/core'
import { notifications } from '@mantine/notifications'
import { asApiError } from '../api/errors'

/** A short confirmation that goes away by itself. */
export function toast(message: string) {
  notifications.show({ message, autoClose: 2500 })
}

/** Says what failed; with `retry` it stays longer and offers the same action again. */
export function toastFailure(what: string, thrown: unknown, retry?: () => void) {
  const failure = asApiError(thrown)
  const id = notifications.show({
    color: 'red',
    title: what,
    message: (
      <>
        {failure.message}
        {failure.requestId && (
          <div style={{ fontSize: 11, color: 'var(--t-3)' }}>Request {failure.requestId}</div>
        )}
        {retry && (
          <Button
            mt={6}
            variant="default"
            onClick={() => {
              notifications.hide(id)
              retry()
            }}
          >
            Retry
          </Button>
        )}
      </>
    ),
    autoClose: retry ? 15_000 : 6_000,
  })
}
