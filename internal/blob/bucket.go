package blob

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tandemhq/tandem"
)

const (
	dialTime   = 10 * time.Second
	answerTime = 30 * time.Second // until the store begins to answer a request that it has
	shortTime  = 30 * time.Second // for a call that carries no content
	putTime    = time.Hour        // for a whole content
	partSize   = 5 << 20          // the least that S3 takes; Put holds one part in memory
	tries      = 3
)

const noAnswer = "The file store cannot be reached, or refuses. Nothing was stored."

// bucket keeps contents as objects of an S3-compatible store.
type bucket struct {
	client       *minio.Client
	tr           *http.Transport
	name, prefix string
}

var _ Store = (*bucket)(nil)

func newBucket(u *url.URL, o Options) (*bucket, error) {
	bad := tandem.Errorf(tandem.Invalid, badURL, tandem.Clip(o.URL, 200))
	endpoint, region := "https://s3.amazonaws.com", "us-east-1"
	for name, values := range u.Query() {
		switch {
		case name == "endpoint" && len(values) == 1 && values[0] != "":
			if endpoint = values[0]; !strings.Contains(endpoint, "://") {
				endpoint = "https://" + endpoint
			}
		case name == "region" && len(values) == 1 && values[0] != "":
			region = values[0]
		default:
			return nil, bad
		}
	}
	e, err := url.Parse(endpoint)
	if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || strings.Trim(e.Path, "/") != "" || e.User != nil {
		return nil, bad
	}
	if o.AccessKey == "" || o.SecretKey == "" {
		return nil, tandem.Errorf(tandem.Invalid, "--blob-url needs the store's keys in TANDEM_BLOB_ACCESS_KEY and TANDEM_BLOB_SECRET_KEY.")
	}
	tr := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   dialTime,
		ResponseHeaderTimeout: answerTime,
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   16,
		DisableCompression:    true,
	}
	client, err := minio.New(e.Host, &minio.Options{
		Creds: credentials.NewStaticV4(o.AccessKey, o.SecretKey, ""), Secure: e.Scheme == "https", Region: region, Transport: tr, MaxRetries: tries,
	})
	if err != nil {
		return nil, bad
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &bucket{client, tr, u.Host, prefix}, nil
}

func (b *bucket) String() string {
	return "the bucket " + b.name + " at " + b.client.EndpointURL().Host
}

func (b *bucket) Close() error {
	b.tr.CloseIdleConnections()
	return nil
}

func (b *bucket) object(key Key) (string, error) {
	path, err := key.path()
	return b.prefix + path, err
}

// Put sends parts as they come and puts them together at the end: what is not put together is no object. The store
// forgets the parts of an interrupted one by a rule of the bucket.
func (b *bucket) Put(ctx context.Context, key Key, r io.Reader, most int64) (w Written, err error) {
	object, err := b.object(key)
	if err != nil {
		return w, err
	}
	ctx, cancel := context.WithTimeout(ctx, putTime)
	defer cancel()
	m := newMeter(ctx, r, most)
	if _, err := b.client.PutObject(ctx, b.name, object, m, -1, minio.PutObjectOptions{PartSize: partSize}); err != nil {
		return w, m.failure(err, noAnswer)
	}
	if m.err != nil { // the client took a reader's failure for the end
		return w, m.err
	}
	return m.written(), nil
}

func (b *bucket) Open(ctx context.Context, key Key) (io.ReadSeekCloser, error) {
	name, err := b.object(key)
	if err != nil {
		return nil, err
	}
	object, err := b.client.GetObject(ctx, b.name, name, minio.GetObjectOptions{})
	if err != nil {
		return nil, away(err, "The file store cannot be read.")
	}
	if _, err := object.Stat(); err != nil {
		_ = object.Close()
		if res := minio.ToErrorResponse(err); res.StatusCode == http.StatusNotFound && res.Code != "NoSuchBucket" {
			return nil, gone(err)
		}
		return nil, away(err, "The file store cannot be read.")
	}
	return object, nil
}

func (b *bucket) Delete(ctx context.Context, key Key) error {
	object, err := b.object(key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, shortTime)
	defer cancel()
	if err := b.client.RemoveObject(ctx, b.name, object, minio.RemoveObjectOptions{}); err != nil {
		return away(err, "The file store cannot be written.")
	}
	return nil
}
