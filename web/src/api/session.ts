import { queryOptions, useQuery } from '@tanstack/react-query'
import { answer, api } from './client'
import type { Me } from './types'

/** Who is signed in. Fails with kind `unauthenticated` when nobody is. */
export const meQuery = queryOptions({
  queryKey: ['me'],
  queryFn: ({ signal }) => answer(api.GET('/me', { signal })),
  staleTime: Number.POSITIVE_INFINITY,
  retry: false,
})

/** The signed-in member; the shell only renders pages once it is known. */
export function useMe(): Me {
  const { data } = useQuery(meQuery)
  if (!data) throw new Error('useMe outside the signed-in shell')
  return data
}

/** Whether the signed-in member holds a permission such as "conversation:reply". */
export function may(me: Me, permission: string): boolean {
  return me.permissions.includes(permission)
}
