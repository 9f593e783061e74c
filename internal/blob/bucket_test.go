package blob

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tandemhq/tandem"
)

const (
	access = "AKIDEXAMPLE"
	secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// s3 speaks the wire format of S3, as far as objects in one bucket go, and checks every signature (AWS Signature
// Version 4) and every chunk's.
type s3 struct {
	t       *testing.T
	mu      sync.Mutex
	objects map[string][]byte
	parts   map[string]map[int][]byte // of uploads that are not put together
	calls   map[string]int
	broken  atomic.Bool
}

func newS3(t *testing.T) (*s3, Options) {
	t.Helper()
	s := &s3{t: t, objects: map[string][]byte{}, parts: map[string]map[int][]byte{}, calls: map[string]int{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return s, Options{URL: "s3://files/tandem?region=eu-test-1&endpoint=" + url.QueryEscape(srv.URL), AccessKey: access, SecretKey: secret}
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// signed checks the signature of a request and returns its body, taken out of signed chunks where it is in such.
func (s *s3) signed(r *http.Request) ([]byte, error) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	auth := map[string]string{}
	for _, p := range strings.Split(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		auth[name] = value
	}
	credential := strings.Split(auth["Credential"], "/")
	if scheme != "AWS4-HMAC-SHA256" || len(credential) != 5 || credential[0] != access || credential[2] != "eu-test-1" || credential[3] != "s3" || credential[4] != "aws4_request" {
		return nil, fmt.Errorf("not signed with version 4 for this region: %s", r.Header.Get("Authorization"))
	}
	names := strings.Split(auth["SignedHeaders"], ";")
	if !slices.Contains(names, "host") || !slices.Contains(names, "x-amz-date") || !slices.Contains(names, "x-amz-content-sha256") {
		return nil, fmt.Errorf("signed headers %v", names)
	}
	date := r.Header.Get("X-Amz-Date")
	if at, err := time.Parse("20060102T150405Z", date); err != nil || time.Since(at).Abs() > time.Minute || date[:8] != credential[1] {
		return nil, fmt.Errorf("signed at %s", date)
	}
	var head strings.Builder
	for _, n := range names {
		value := r.Header.Get(n)
		switch n {
		case "host":
			value = r.Host
		case "content-length":
			value = strconv.FormatInt(r.ContentLength, 10)
		}
		head.WriteString(n + ":" + strings.TrimSpace(value) + "\n")
	}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	request := strings.Join([]string{r.Method, r.URL.EscapedPath(), strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20"), head.String(), auth["SignedHeaders"], payload}, "\n")
	hashed := sha256.Sum256([]byte(request))
	scope := strings.Join(credential[1:], "/")
	key := mac(mac(mac(mac([]byte("AWS4"+secret), credential[1]), credential[2]), "s3"), "aws4_request")
	want := hex.EncodeToString(mac(key, strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, hex.EncodeToString(hashed[:])}, "\n")))
	if auth["Signature"] != want {
		return nil, fmt.Errorf("the signature is %s, want %s of\n%s", auth["Signature"], want, request)
	}
	if payload == "UNSIGNED-PAYLOAD" {
		return io.ReadAll(r.Body)
	}
	if payload == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" {
		return chunks(r.Body, key, date, scope, want)
	}
	body, err := io.ReadAll(r.Body)
	if sum := sha256.Sum256(body); err == nil && payload != hex.EncodeToString(sum[:]) {
		err = fmt.Errorf("the body's sum is not the signed %s", payload)
	}
	return body, err
}

// chunks reads a body in signed chunks: size;chunk-signature=…, each signature over the one before it.
func chunks(r io.Reader, key []byte, date, scope, before string) (body []byte, err error) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, signature, _ := strings.Cut(strings.TrimSpace(line), ";chunk-signature=")
		n, err := strconv.ParseInt(size, 16, 32)
		if err != nil {
			return nil, err
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, err
		}
		sum, none := sha256.Sum256(chunk[:n]), sha256.Sum256(nil)
		before = hex.EncodeToString(mac(key, strings.Join([]string{"AWS4-HMAC-SHA256-PAYLOAD", date, scope, before, hex.EncodeToString(none[:]), hex.EncodeToString(sum[:])}, "\n")))
		if signature != before {
			return nil, fmt.Errorf("the signature of a chunk is %s, want %s", signature, before)
		}
		if body = append(body, chunk[:n]...); n == 0 {
			return body, nil
		}
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (s *s3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.broken.Load() {
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	body, err := s.signed(r)
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL, err)
		refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	object, ok := strings.CutPrefix(r.URL.Path, "/files/")
	q := r.URL.Query()
	upload := q.Get("uploadId")
	s.calls[r.Method]++
	if sum := r.Header.Get("Content-Md5"); sum != "" {
		if have := md5.Sum(body); sum != base64.StdEncoding.EncodeToString(have[:]) {
			refuse(w, http.StatusBadRequest, "BadDigest")
			return
		}
	}
	switch {
	case !ok || !strings.HasPrefix(object, "tandem/"):
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := strconv.Itoa(len(s.calls)) + "-" + strconv.Itoa(s.calls[r.Method])
		s.parts[id] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>files</Bucket><Key>%s</Key><UploadId>%s</UploadId></InitiateMultipartUploadResult>", object, id)
	case upload != "" && s.parts[upload] == nil:
		refuse(w, http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPut && upload != "":
		n, _ := strconv.Atoi(q.Get("partNumber"))
		s.parts[upload][n] = body
		w.Header().Set("ETag", etag(body))
	case r.Method == http.MethodPost && upload != "":
		var all struct {
			Part []struct {
				PartNumber int
				ETag       string
			}
		}
		if err := xml.Unmarshal(body, &all); err != nil {
			refuse(w, http.StatusBadRequest, "MalformedXML")
			return
		}
		var whole []byte
		for i, p := range all.Part {
			part := s.parts[upload][p.PartNumber]
			if p.PartNumber != i+1 || strings.Trim(p.ETag, `"`) != strings.Trim(etag(part), `"`) || i+1 < len(all.Part) && len(part) < 5<<20 {
				refuse(w, http.StatusBadRequest, "InvalidPart")
				return
			}
			whole = append(whole, part...)
		}
		delete(s.parts, upload)
		s.objects[object] = whole
		fmt.Fprintf(w, "<CompleteMultipartUploadResult><Bucket>files</Bucket><Key>%s</Key><ETag>%s</ETag></CompleteMultipartUploadResult>", object, etag(whole))
	case r.Method == http.MethodDelete && upload != "":
		delete(s.parts, upload)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		s.objects[object] = body
		w.Header().Set("ETag", etag(body))
	case r.Method == http.MethodDelete:
		delete(s.objects, object)
		w.WriteHeader(http.StatusNoContent)
	case s.objects[object] == nil:
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		w.Header().Set("ETag", etag(s.objects[object]))
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Now(), bytes.NewReader(s.objects[object]))
	}
}

func etag(b []byte) string {
	sum := md5.Sum(b)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func TestBucket(t *testing.T) {
	t.Parallel()
	fake, o := newS3(t)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	suite(t, s, func() int {
		fake.mu.Lock()
		defer fake.mu.Unlock()
		return len(fake.objects) + len(fake.parts)
	})
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		if fake.calls[method] == 0 {
			t.Errorf("the store saw no %s: %v", method, fake.calls)
		}
	}
	t.Logf("figure: S3: %v requests, every signature right", fake.calls)
}

// A store that is away, or that does not know us, is away: nobody hears that a file is gone, or stored.
func TestBucketIsAway(t *testing.T) {
	t.Parallel()
	fake, o := newS3(t)
	fake.broken.Store(true)
	shut := httptest.NewServer(http.NotFoundHandler())
	shut.Close()
	for name, o := range map[string]Options{
		"busy": o, "nobody there": {URL: "s3://files?endpoint=" + url.QueryEscape(shut.URL), AccessKey: access, SecretKey: secret},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, put := s.Put(t.Context(), newKey(), strings.NewReader("x"), 1)
			_, open := s.Open(t.Context(), newKey())
			for what, err := range map[string]error{"put": put, "open": open, "delete": s.Delete(t.Context(), newKey()), "check": Check(t.Context(), s)} {
				if tandem.KindOf(err) != tandem.Unavailable {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}
