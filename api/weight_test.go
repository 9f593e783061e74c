package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/tandemhq/tandem/internal/proof"
	"github.com/tandemhq/tandem/internal/tandemtest"
)

// TestIdleReaderKeepsASmallStack: what a stream needs once, such as the database, it must not keep room for while it waits.
// It is not parallel, because it looks at the memory of the whole process.
func TestIdleReaderKeepsASmallStack(t *testing.T) {
	const readers = 300
	h := tandemtest.Start(t, nil)
	o := h.NewOrg("ours")
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "data: {}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(bare.Close)
	least := stackOfReaders(t, bare.URL, "none", readers)
	ours := stackOfReaders(t, h.URL(), o.Key, readers)
	proof.Figure(t, "G14", "stack of an idle reader: %.1f KB, of a bare handler's %.1f KB", ours/1024, least/1024)
	if ours > 1.5*least {
		t.Errorf("an idle reader keeps %.0f bytes of stack, a bare handler %.0f", ours, least)
	}
}

// stackOfReaders is by how much the stacks of all goroutines grow with each reader.
func stackOfReaders(t *testing.T, url, key string, readers int) float64 {
	t.Helper()
	stack := func() uint64 {
		runtime.GC() // gives back what goroutines that have ended left
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	before := stack()
	for range readers {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /api/v1/live HTTP/1.1\r\nHost: tandem\r\nX-API-Key: %s\r\n\r\n", key)
		for r := bufio.NewReader(c); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("the stream ended: %v", err)
			}
			if strings.HasPrefix(line, "data: ") {
				break
			}
		}
	}
	return float64(stack()-before) / float64(readers)
}
