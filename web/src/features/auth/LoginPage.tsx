import { Button, PasswordInput, TextInput } from '@mantine/core'
import { useMutation, useQueryClient } from '@tanstack/react-query'
import { useNavigate, useRouter, useSearch } from '@tanstack/react-router'
import { type FormEvent, useRef, useState } from 'react'
import { answer, api } from '../../api/client'
import { type ApiError, asApiError } from '../../api/errors'
import { meQuery } from '../../api/session'
import s from './login.module.css'

/** Email and password; paste and password managers work. */
export function LoginPage() {
  const { next } = useSearch({ from: '/login' })
  const cache = useQueryClient()
  const router = useRouter()
  const navigate = useNavigate()
  const [email, setEmail] = useState('')
  const [password, setPassword] = useState('')
  const emailField = useRef<HTMLInputElement>(null)
  const passwordField = useRef<HTMLInputElement>(null)

  const signIn = useMutation({
    mutationFn: () => answer(api.POST('/auth/login', { body: { email: email.trim(), password } })),
    onSuccess: async (me) => {
      cache.clear()
      cache.setQueryData(meQuery.queryKey, me)
      if (next) router.history.push(next)
      else await navigate({ to: '/' })
    },
    onError: () => passwordField.current?.select(),
  })
  const failure: ApiError | undefined = signIn.error ? asApiError(signIn.error) : undefined

  const submit = (event: FormEvent) => {
    event.preventDefault()
    if (!email.trim()) emailField.current?.focus()
    else if (!password) passwordField.current?.focus()
    else signIn.mutate()
  }

  return (
    <main className={s.page}>
      <form className={s.box} onSubmit={submit} noValidate>
        <img src="/icon.svg" alt="" width={36} height={36} />
        <h1>Sign in to Tandem</h1>
        {failure && (
          <div role="alert" className={s.failure}>
            {failure.message}
            {failure.requestId && failure.kind !== 'unauthenticated' && (
              <small>Request {failure.requestId}</small>
            )}
          </div>
        )}
        <TextInput
          ref={emailField}
          label="Email"
          type="email"
          name="email"
          autoComplete="username"
          autoFocus
          size="sm"
          value={email}
          error={failure?.field('email')}
          onChange={(event) => setEmail(event.currentTarget.value)}
        />
        <PasswordInput
          ref={passwordField}
          label="Password"
          name="password"
          autoComplete="current-password"
          size="sm"
          value={password}
          error={failure?.field('password')}
          visibilityToggleButtonProps={{ 'aria-label': 'Show the password', tabIndex: 0 }}
          onChange={(event) => setPassword(event.currentTarget.value)}
        />
        <Button type="submit" fullWidth loading={signIn.isPending} mt={4}>
          Sign in
        </Button>
      </form>
    </main>
  )
}
