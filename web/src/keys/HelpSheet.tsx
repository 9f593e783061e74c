import { Modal } from '@mantine/core'
import { Kbd } from '../ui/Tag'
import s from './help.module.css'
import { type Shortcut, shortcuts } from './registry'

const groups: Shortcut['group'][] = ['Go to', 'Inbox', 'Conversation', 'Everywhere']

/** All shortcuts, opened with "?". */
export function HelpSheet({ opened, onClose }: { opened: boolean; onClose: () => void }) {
  const all: Shortcut[] = Object.values(shortcuts)
  return (
    <Modal
      opened={opened}
      onClose={onClose}
      title="Keyboard shortcuts"
      size={520}
      closeButtonProps={{ 'aria-label': 'Close' }}
    >
      <div className={s.groups}>
        {groups.map((group) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {all
                .filter((k) => k.group === group)
                .map((k) => (
                  <div key={k.keys}>
                    <dt>{k.label}</dt>
                    <dd>
                      {k.shown.map((key) => (
                        <Kbd key={key}>{key}</Kbd>
                      ))}
                    </dd>
                  </div>
                ))}
            </dl>
          </section>
        ))}
      </div>
    </Modal>
  )
}
