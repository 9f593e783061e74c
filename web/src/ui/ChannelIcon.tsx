import {
  type Icon,
  IconBrandWhatsapp,
  IconMail,
  IconMessage2,
  IconPlugConnected,
  IconWebhook,
} from '@tabler/icons-react'

const looks: Record<string, { icon: Icon; color: string; label: string }> = {
  webchat: { icon: IconMessage2, color: 'var(--c-webchat)', label: 'Web chat' },
  webhook: { icon: IconWebhook, color: 'var(--c-webhook)', label: 'Webhook' },
  email: { icon: IconMail, color: 'var(--c-email)', label: 'Email' },
  whatsapp: { icon: IconBrandWhatsapp, color: 'var(--c-whatsapp)', label: 'WhatsApp' },
}

/** The name of a channel kind for a person; a kind we do not know keeps its own name. */
export function channelLabel(kind: string): string {
  return looks[kind]?.label ?? kind
}

/** A small icon that names the channel kind. */
export function ChannelIcon({ kind, size = 13 }: { kind: string; size?: number }) {
  const look = looks[kind]
  const Icon = look?.icon ?? IconPlugConnected
  return (
    <span
      role="img"
      aria-label={channelLabel(kind)}
      title={channelLabel(kind)}
      style={{ color: look?.color ?? 'var(--t-3)', display: 'inline-flex', flex: 'none' }}
    >
      <Icon size={size} stroke={2} aria-hidden />
    </span>
  )
}
