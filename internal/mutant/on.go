//go:build mutant

package mutant

import "os"

var name = os.Getenv(Env)

// Is says whether this program is to have the named defect.
func Is(defect string) bool { return name == defect }
