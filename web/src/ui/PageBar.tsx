import type { ReactNode } from 'react'
import s from './page-bar.module.css'

/** The 46 px bar on top of a page or pane: what it is on the left, what to do on the right. */
export function PageBar({ children }: { children: ReactNode }) {
  return <header className={s.bar}>{children}</header>
}

/** Pushes what follows to the right edge of a bar. */
export function Spring() {
  return <div className={s.spring} />
}
