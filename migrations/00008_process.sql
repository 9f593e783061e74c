-- What a process that is gone leaves behind is settled at once and shown as what it is.

-- +goose Up

-- A timer that guards the work of one process falls due as soon as that process is gone, not only when its time is over.
ALTER TABLE timers ADD COLUMN process int; -- whose work it guards; 0: that process is gone; NULL: nobody's
CREATE INDEX timers_process ON timers (process) WHERE process IS NOT NULL;

-- A message that is held back after such a try may have arrived all the same: it becomes unknown, not cancelled.
ALTER TABLE messages ADD COLUMN unclear boolean NOT NULL DEFAULT false; -- nobody knows what one of its tries came to
