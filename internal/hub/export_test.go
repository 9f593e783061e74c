package hub

import "github.com/tandemhq/tandem/internal/pg"

// WorkConns is how many connections Work has.
const WorkConns = workConns

// Work is the pool of whatever nobody waits for.
func (h *Hub) Work() *pg.DB { return h.work }
