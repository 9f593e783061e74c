import { ActionIcon, Tooltip, useComputedColorScheme, useMantineColorScheme } from '@mantine/core'
import {
  IconArrowsExchange,
  IconInbox,
  IconKeyboard,
  IconLayoutKanban,
  IconLogout,
  IconMoon,
  IconSun,
} from '@tabler/icons-react'
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query'
import { Link, Outlet, useLocation, useNavigate } from '@tanstack/react-router'
import { useState } from 'react'
import { answer, api } from '../../api/client'
import { countsQuery } from '../../api/queries'
import { useMe } from '../../api/session'
import { HelpSheet } from '../../keys/HelpSheet'
import { useShortcuts } from '../../keys/registry'
import { useStreamLost } from '../../realtime/presence'
import { useLive } from '../../realtime/useLive'
import { Person } from '../../ui/Person'
import { toastFailure } from '../../ui/toast'
import s from './shell.module.css'

/** Sidebar (a bottom bar on phones), the live stream, and the raised panel that holds the page. */
export function Shell() {
  const me = useMe()
  const navigate = useNavigate()
  const [help, setHelp] = useState(false)
  useLive(me.member.id)
  useShortcuts({
    goInbox: () => void navigate({ to: '/inbox/{-$conversationId}', params: {}, search: {} }),
    goHandoffs: () =>
      void navigate({ to: '/inbox/{-$conversationId}', params: {}, search: { view: 'needs_you' } }),
    goPipeline: () => void navigate({ to: '/pipeline', search: {} }),
    help: () => setHelp(true),
  })
  return (
    <div className={s.root}>
      <nav className={s.side} aria-label="Main">
        <div className={s.org}>
          <span className={s.logo} aria-hidden>
            {[...me.org.name][0]?.toUpperCase()}
          </span>
          <span className={s.orgName}>{me.org.name}</span>
        </div>
        <Places />
        <div className={s.grow} />
        <Account onHelp={() => setHelp(true)} />
      </nav>
      <main className={s.main}>
        <StreamBar />
        <Outlet />
      </main>
      <HelpSheet opened={help} onClose={() => setHelp(false)} />
    </div>
  )
}

function Places() {
  const { data: counts } = useQuery(countsQuery)
  const location = useLocation()
  const inInbox = location.pathname.startsWith('/inbox')
  const handoffs = inInbox && 'view' in location.search && location.search.view === 'needs_you'
  return (
    <>
      <Link
        to="/inbox/{-$conversationId}"
        params={{}}
        search={{}}
        className={s.nav}
        // The router marks a link by its path; this one must not be marked for the handoffs too.
        activeOptions={{ exact: handoffs, includeSearch: handoffs }}
      >
        <IconInbox size={16} stroke={1.7} aria-hidden />
        <span className={s.label}>Inbox</span>
        {counts && counts.all > 0 && <span className={s.count}>{capped(counts.all)}</span>}
      </Link>
      <Link to="/inbox/{-$conversationId}" params={{}} search={{ view: 'needs_you' }} className={s.nav}>
        <IconArrowsExchange size={16} stroke={1.7} aria-hidden />
        <span className={s.label}>Handoffs</span>
        {counts && counts.needs_you > 0 && (
          <span className={`${s.count} ${s.hot}`}>
            {capped(counts.needs_you)}
            <span className="visually-hidden"> waiting</span>
          </span>
        )}
      </Link>
      <Link to="/pipeline" search={{}} className={s.nav}>
        <IconLayoutKanban size={16} stroke={1.7} aria-hidden />
        <span className={s.label}>Pipeline</span>
      </Link>
    </>
  )
}

/** The server counts to 1,000. */
export function capped(n: number): string {
  return n >= 1000 ? '1,000+' : String(n)
}

function Account({ onHelp }: { onHelp: () => void }) {
  const me = useMe()
  const cache = useQueryClient()
  const navigate = useNavigate()
  const { setColorScheme } = useMantineColorScheme()
  const scheme = useComputedColorScheme('light')
  const other = scheme === 'dark' ? 'light' : 'dark'
  const signOut = useMutation({
    mutationFn: () => answer(api.POST('/auth/logout')),
    onSuccess: async () => {
      await navigate({ to: '/login', search: {} })
      cache.clear()
    },
    onError: (error) => toastFailure('You are still signed in.', error),
  })
  return (
    <div className={s.account}>
      <Person name={me.member.name} size={26} />
      <div className={s.who}>
        <div className={s.whoName}>{me.member.name}</div>
        <div className={s.whoRole}>{me.member.title || me.member.role}</div>
      </div>
      <Tooltip label="Keyboard shortcuts (?)">
        <ActionIcon size={26} className={s.wideOnly} aria-label="Keyboard shortcuts" onClick={onHelp}>
          <IconKeyboard size={15} aria-hidden />
        </ActionIcon>
      </Tooltip>
      <Tooltip label={`Use the ${other} theme`}>
        <ActionIcon size={26} aria-label={`Use the ${other} theme`} onClick={() => setColorScheme(other)}>
          {scheme === 'dark' ? <IconSun size={15} aria-hidden /> : <IconMoon size={15} aria-hidden />}
        </ActionIcon>
      </Tooltip>
      <Tooltip label="Sign out">
        <ActionIcon
          size={26}
          aria-label="Sign out"
          loading={signOut.isPending}
          onClick={() => signOut.mutate()}
        >
          <IconLogout size={15} aria-hidden />
        </ActionIcon>
      </Tooltip>
    </div>
  )
}

function StreamBar() {
  const lost = useStreamLost()
  return (
    <div role="status">
      {lost && <div className={s.lost}>Reconnecting. What you see may be old; drafts are kept.</div>}
    </div>
  )
}
