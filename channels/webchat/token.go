package webchat

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/tandemhq/tandem"
	"github.com/tandemhq/tandem/channels"
)

const (
	tokenVersion = "v1"
	tokenLife    = 400 * 24 * time.Hour // browsers keep no cookie longer either
	tokenRenew   = 24 * time.Hour       // a session call gives a fresh token after this
	tokenMost    = 256                  // characters of a token; longer ones are not looked at
)

// A visitor token is "v1.<body>.<mac>", both base64url: the body is the visitor's
// UUID (16 bytes) and the second of issue (8 bytes); the MAC covers the version, the
// organization, the channel and the body, so a token is worth nothing elsewhere.
var tokenCoding = base64.RawURLEncoding.Strict()

func (c *chat) signed(body []byte) []byte {
	return append([]byte("webchat visitor "+tokenVersion+"\n"+string(c.config.Org)+"\n"+string(c.config.ID)+"\n"), body...)
}

// issue makes a token for a visitor, whose address is a UUID.
func (c *chat) issue(who channels.Address) (string, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(string(who), "-", ""))
	if err != nil || len(id) != 16 {
		return "", tandem.Errorf(tandem.Internal, "webchat: a visitor's address is not a UUID")
	}
	body := binary.BigEndian.AppendUint64(id, uint64(c.now().Unix()))
	mac := c.config.Sign(c.signed(body))
	return tokenVersion + "." + tokenCoding.EncodeToString(body) + "." + tokenCoding.EncodeToString(mac), nil
}

// visitor returns whom a token names and how old it is, or an Unauthenticated error.
func (c *chat) visitor(token string) (who channels.Address, age time.Duration, err error) {
	bad := tandem.Errorf(tandem.Unauthenticated, "The visitor token does not hold. Start a new session.")
	if len(token) > tokenMost {
		return "", 0, bad
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || parts[0] != tokenVersion {
		return "", 0, bad
	}
	body, errBody := tokenCoding.DecodeString(parts[1])
	mac, errMAC := tokenCoding.DecodeString(parts[2])
	if errBody != nil || errMAC != nil || len(body) != 24 || !c.config.Verify(c.signed(body), mac) {
		return "", 0, bad
	}
	age = c.now().Sub(time.Unix(int64(binary.BigEndian.Uint64(body[16:])), 0))
	if age > tokenLife {
		return "", 0, bad
	}
	x := hex.EncodeToString(body[:16])
	return channels.Address(x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]), age, nil
}
