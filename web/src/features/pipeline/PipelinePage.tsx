import { SegmentedControl } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useNavigate, useSearch } from '@tanstack/react-router'
import { useEffect, useMemo } from 'react'
import { boardLeadsQuery, boardsQuery } from '../../api/queries'
import type { Board, Lead } from '../../api/types'
import { useNow } from '../../ui/now'
import { PageBar, Spring } from '../../ui/PageBar'
import { EmptyState, ErrorState, SkeletonRows } from '../../ui/states'
import s from './board.module.css'
import { Column } from './Column'

/** A board of stages. It follows the live stream; cards are moved by AI members and by the API. */
export function PipelinePage() {
  const { board: chosen } = useSearch({ from: '/app/pipeline' })
  const navigate = useNavigate()
  const boards = useQuery(boardsQuery)
  const all = (boards.data?.items ?? []).filter((b) => b.kind !== 'deal')
  const board = all.find((b) => b.id === chosen) ?? all.find((b) => b.is_default) ?? all[0]
  useEffect(() => {
    document.title = `${board?.name ?? 'Pipeline'} · Tandem`
  }, [board?.name])

  return (
    <>
      <PageBar>
        <h1>{board?.name ?? 'Pipeline'}</h1>
        <Spring />
        {all.length > 1 && board && (
          <SegmentedControl
            size="xs"
            aria-label="Board"
            value={board.id}
            data={all.map((b) => ({ value: b.id, label: b.name }))}
            onChange={(id) => void navigate({ to: '/pipeline', search: { board: id } })}
          />
        )}
      </PageBar>
      {boards.isPending ? (
        <SkeletonRows count={5} height={88} face={false} />
      ) : boards.isError && all.length === 0 ? (
        <ErrorState
          what="The boards could not be loaded."
          error={boards.error}
          retry={() => void boards.refetch()}
        />
      ) : !board ? (
        <EmptyState>There is no board yet. Leads appear on a board as soon as there is one.</EmptyState>
      ) : (
        <Columns board={board} />
      )}
    </>
  )
}

function Columns({ board }: { board: Board }) {
  const leads = useQuery(boardLeadsQuery(board.id))
  const now = useNow()
  const byStage = useMemo(() => group(leads.data?.items ?? []), [leads.data])
  if (leads.isError && !leads.data) {
    return (
      <ErrorState
        what="The leads could not be loaded."
        error={leads.error}
        retry={() => void leads.refetch()}
      />
    )
  }
  const stages = [...board.stages].sort((a, b) => a.position - b.position)
  return (
    // biome-ignore lint/a11y/useSemanticElements: a scrolling region that must be reachable by keyboard
    <div className={s.board} tabIndex={0} role="region" aria-label="Board">
      {stages.map((stage, i) => (
        <Column
          key={stage.id}
          stage={stage}
          color={stage.kind === 'open' ? `var(--stage-${i % 5})` : `var(--stage-${stage.kind})`}
          leads={byStage.get(stage.id) ?? []}
          loading={leads.isPending}
          now={now}
        />
      ))}
    </div>
  )
}

/** Leads by stage, the ones that came to the stage last on top. */
export function group(leads: Lead[]): Map<string, Lead[]> {
  const at = (l: Lead) => Date.parse(l.stage_changed_at ?? l.created_at)
  const groups = new Map<string, Lead[]>()
  for (const lead of leads) {
    const list = groups.get(lead.stage.id)
    if (list) list.push(lead)
    else groups.set(lead.stage.id, [lead])
  }
  for (const list of groups.values()) list.sort((a, b) => at(b) - at(a))
  return groups
}
