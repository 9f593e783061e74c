package oracle

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/mail"
	"net/textproto"
	"strings"
	"sync"
	"time"
)

// mailbox is an SMTP server that takes every mail.
type mailbox struct {
	j      *Journal
	faults *faults
	ctx    context.Context
}

const smtpIdle = 2 * time.Minute

func (m *mailbox) serve(ln net.Listener, wg *sync.WaitGroup) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			stop := context.AfterFunc(m.ctx, func() { _ = c.Close() })
			defer stop()
			m.session(c)
			_ = c.Close()
		})
	}
}

// session speaks RFC 5321 with one client. The fate of a session is rolled once; it strikes its first mail.
func (m *mailbox) session(c net.Conn) {
	f := m.faults.roll(SMTP)
	if f.at(Reset, "") {
		reset(c)
		return
	}
	if f.at(Slow, "") {
		sleep(m.ctx, m.ctx, f.delay())
	}
	text := textproto.NewConn(c)
	say := func(format string, args ...any) { _ = text.PrintfLine(format, args...) } // a client that is gone ends the next read
	say("220 oracle.example ESMTP")
	var from string
	var to []string
	for {
		_ = c.SetDeadline(time.Now().Add(smtpIdle))
		line, err := text.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			say("250-oracle.example")
			say("250-8BITMIME")
			say("250-AUTH PLAIN")
			say("250 SIZE 41943040")
		case "HELO", "NOOP":
			say("250 OK")
		case "AUTH":
			say("235 2.7.0 Accepted")
		case "RSET":
			from, to = "", nil
			say("250 OK")
		case "MAIL":
			from, to = address(rest), nil
			say("250 2.1.0 OK")
		case "RCPT":
			to = append(to, address(rest))
			say("250 2.1.5 OK")
		case "DATA":
			if from == "" || len(to) == 0 {
				say("503 5.5.1 MAIL and RCPT first")
				continue
			}
			if f.at(Before, "") {
				return
			}
			say("354 End with a dot")
			if f.at(Middle, "") {
				_, _ = text.ReadLine() // one line of it, and then no more
				reset(c)
				return
			}
			if !m.data(text, f, from, to, say) {
				reset(c)
				return
			}
			from, to = "", nil
		case "QUIT":
			say("221 Bye")
			return
		default:
			say("502 5.5.2 Unknown command")
		}
	}
}

// data takes one mail; false: the connection is to be cut.
func (m *mailbox) data(text *textproto.Conn, f *fate, from string, to []string, say func(string, ...any)) bool {
	raw, err := io.ReadAll(io.LimitReader(text.DotReader(), 40<<20))
	if err != nil {
		return false // the final dot never came: nothing was taken
	}
	key, body := "", ""
	if msg, err := mail.ReadMessage(bufio.NewReader(bytes.NewReader(raw))); err == nil {
		key = strings.Trim(msg.Header.Get("Message-Id"), "<>")
		b, _ := io.ReadAll(msg.Body) // it is in memory
		body = string(b)
	}
	e := m.j.add(Entry{Provider: SMTP, Kind: Took, Key: key, Thread: strings.Join(to, ","), From: from, Text: body})
	if f.at(AfterTaking, key) {
		return false
	}
	if f.at(BeforeAnswering, key) {
		sleep(m.ctx, m.ctx, f.delay())
	}
	m.j.add(Entry{Provider: SMTP, Kind: Answered, Key: key})
	say("250 2.0.0 %s", fmt.Sprintf("queued as %d", e.N))
	return true
}

// address is what stands in the angle brackets of MAIL FROM or RCPT TO.
func address(rest string) string {
	_, after, _ := strings.Cut(rest, "<")
	addr, _, _ := strings.Cut(after, ">")
	return addr
}
