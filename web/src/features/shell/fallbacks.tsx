import { Link, useRouter } from '@tanstack/react-router'
import { EmptyState, ErrorState } from '../../ui/states'
import s from './shell.module.css'

/** An address that leads nowhere. */
export function NotFound() {
  return (
    <main className={s.alone}>
      <EmptyState action={<Link to="/">Go to the inbox</Link>}>There is no page at this address.</EmptyState>
    </main>
  )
}

/** A page that could not be loaded at all. */
export function PageFailure({ error }: { error: unknown }) {
  const router = useRouter()
  return (
    <main className={s.alone}>
      <ErrorState
        what="This page could not be loaded."
        error={error}
        retry={() => void router.invalidate()}
      />
    </main>
  )
}
