package api

import "github.com/tandemhq/tandem/crm"

// recordRoutes serves every kind of record that crm lists.
func (s *server) recordRoutes() {
	for _, r := range crm.All {
		s.records(r)
	}
}
