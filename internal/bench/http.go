package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Target is where requests go and with which key.
type Target struct {
	addr string
	head string // request line and headers up to the length of the body
}

// NewTarget prepares POST requests with JSON bodies to url, such as http://127.0.0.1:8080/api/v1/inbound/lead, with an
// API key.
func NewTarget(url, key string) Target {
	addr, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return Target{addr, "POST /" + path + " HTTP/1.1\r\nHost: " + addr + "\r\nX-API-Key: " + key + "\r\nContent-Type: application/json\r\nContent-Length: "}
}

// Conn is one keep-alive HTTP/1.1 connection to one server. It does less than net/http, because generator and server
// share the processors and what the generator takes is missing in the figure. It connects at the first request, and anew
// after a failed one. Not for several goroutines at once.
type Conn struct {
	c   net.Conn
	r   *bufio.Reader
	out []byte
	in  []byte
}

// Post sends a body and reads the whole answer, which is valid until the next call.
func (c *Conn) Post(ctx context.Context, t Target, body []byte) (status int, answer []byte, err error) {
	if c.c == nil {
		var d net.Dialer
		if c.c, err = d.DialContext(ctx, "tcp", t.addr); err != nil {
			c.c = nil
			return 0, nil, fmt.Errorf("connect: %w", err)
		}
		c.r = bufio.NewReaderSize(c.c, 8<<10)
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(opTimeout)
	}
	if err := c.c.SetDeadline(deadline); err != nil {
		return 0, nil, fmt.Errorf("set a deadline: %w", err)
	}
	c.out = append(c.out[:0], t.head...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(append(c.out, "\r\n\r\n"...), body...)
	if _, err := c.c.Write(c.out); err != nil {
		return 0, nil, fmt.Errorf("send: %w", err)
	}
	return c.read()
}

func (c *Conn) read() (status int, answer []byte, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("read the answer: %q is no status", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("read the status: %w", err)
	}
	length, last := -1, false
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, fmt.Errorf("read the headers: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, fmt.Errorf("read the length: %w", err)
			}
		case bytes.EqualFold(name, []byte("Connection")) && bytes.EqualFold(value, []byte("close")):
			last = true
		}
	}
	if length < 0 {
		return 0, nil, fmt.Errorf("the answer with status %d has no length", status)
	}
	if cap(c.in) < length {
		c.in = make([]byte, length)
	}
	c.in = c.in[:length]
	if _, err := io.ReadFull(c.r, c.in); err != nil {
		return 0, nil, fmt.Errorf("read the body: %w", err)
	}
	if last {
		c.Close()
	}
	return status, c.in, nil
}

// Close ends the connection; the next Post makes a new one.
func (c *Conn) Close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}
