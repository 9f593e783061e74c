package crm

import (
	"bytes"
	"mime"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/tandemhq/tandem"
)

const (
	maxFileName = 200 // characters
	// FileHead is how many bytes of a file CheckFile looks at.
	FileHead = 512
)

// shape is what the first bytes of a file must look like.
type shape func(head []byte) bool

func begins(with ...string) shape {
	return func(head []byte) bool {
		return slices.ContainsFunc(with, func(w string) bool { return bytes.HasPrefix(head, []byte(w)) })
	}
}

// at is a mark that does not stand at the beginning.
func at(offset int, mark string) shape {
	return func(head []byte) bool { return len(head) > offset && bytes.HasPrefix(head[offset:], []byte(mark)) }
}

func either(all ...shape) shape {
	return func(head []byte) bool { return slices.ContainsFunc(all, func(s shape) bool { return s(head) }) }
}

var (
	text   shape = func(head []byte) bool { return strings.HasPrefix(http.DetectContentType(head), "text/") }
	zipped       = begins("PK\x03\x04", "PK\x05\x06") // never opened: what is inside is the reader's own affair
	ole          = begins("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
	tiff         = begins("II*\x00", "MM\x00*")
	boxed        = at(4, "ftyp")
	riff         = begins("RIFF")
)

// kindOfFile is the type that files of an ending have, and their shape.
type kindOfFile struct {
	ctype string
	shape shape
}

// fileKinds is by ending. What is not here may be uploaded as well, as bytes of no known type.
var fileKinds = map[string]kindOfFile{
	".pdf": {"application/pdf", begins("%PDF-")},
	".png": {"image/png", begins("\x89PNG\r\n\x1a\n")}, ".gif": {"image/gif", begins("GIF87a", "GIF89a")},
	".jpg": {"image/jpeg", begins("\xff\xd8\xff")}, ".jpeg": {"image/jpeg", begins("\xff\xd8\xff")},
	".webp": {"image/webp", at(8, "WEBP")}, ".bmp": {"image/bmp", begins("BM")}, ".tif": {"image/tiff", tiff}, ".tiff": {"image/tiff", tiff},
	".heic": {"image/heic", boxed}, ".svg": {"image/svg+xml", text},
	".docx": {"application/vnd.openxmlformats-officedocument.wordprocessingml.document", zipped},
	".xlsx": {"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", zipped},
	".pptx": {"application/vnd.openxmlformats-officedocument.presentationml.presentation", zipped},
	".odt":  {"application/vnd.oasis.opendocument.text", zipped}, ".ods": {"application/vnd.oasis.opendocument.spreadsheet", zipped},
	".odp": {"application/vnd.oasis.opendocument.presentation", zipped},
	".doc": {"application/msword", either(ole, begins("{\\rtf"))}, ".xls": {"application/vnd.ms-excel", ole}, ".ppt": {"application/vnd.ms-powerpoint", ole},
	".msg": {"application/vnd.ms-outlook", ole}, ".rtf": {"application/rtf", begins("{\\rtf")},
	".zip": {"application/zip", zipped}, ".gz": {"application/gzip", begins("\x1f\x8b")}, ".7z": {"application/x-7z-compressed", begins("7z\xbc\xaf\x27\x1c")},
	".txt": {"text/plain", text}, ".log": {"text/plain", text}, ".md": {"text/markdown", text}, ".csv": {"text/csv", text}, ".tsv": {"text/tab-separated-values", text},
	".json": {"application/json", text}, ".xml": {"application/xml", text}, ".ics": {"text/calendar", text}, ".vcf": {"text/vcard", text},
	".eml": {"message/rfc822", text}, ".html": {"text/html", text}, ".htm": {"text/html", text},
	".mp3": {"audio/mpeg", either(begins("ID3"), begins("\xff\xfb", "\xff\xf3", "\xff\xf2", "\xff\xfa"))}, ".wav": {"audio/wav", riff},
	".m4a": {"audio/mp4", boxed}, ".mp4": {"video/mp4", boxed}, ".mov": {"video/quicktime", either(boxed, at(4, "moov"), at(4, "mdat"), at(4, "wide"))},
}

// shapesOfType is the shape of whatever may call itself by a type; a type that several endings have is here once.
var shapesOfType = func() map[string]shape {
	m := map[string]shape{}
	for _, k := range fileKinds {
		if was := m[k.ctype]; was != nil {
			k.shape = either(was, k.shape)
		}
		m[k.ctype] = k.shape
	}
	m["application/vnd.ms-excel"] = either(ole, text) // what Windows says of a CSV file
	return m
}()

// programs are the endings of what runs when somebody opens it, macros of office files included.
var programs = strings.Fields(`.app .apk .appimage .bash .bat .bin .chm .cmd .com .cpl .csh .deb .dll .dmg .docm .dotm .elf .exe .fish .gadget .hta .inf .iso
	.jar .js .jse .ksh .lnk .mjs .msc .msi .msix .msp .mst .pif .pl .potm .ppam .ppsm .pptm .ps1 .ps1xml .psd1 .psm1 .py .pyc .rb .reg .rpm .scf .scr .sct
	.settingcontent-ms .sh .so .url .vb .vbe .vbs .wasm .wsc .wsf .wsh .xbap .xlam .xlsm .xltm .zsh`)

// runs are the marks of programs, whatever they are called.
var runs = either(
	begins("\x7fELF", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe", "#!", "\x00asm", "L\x00\x00\x00\x01\x14\x02\x00"),
	func(head []byte) bool { return bytes.HasPrefix(head, []byte("MZ")) && bytes.IndexByte(head, 0) >= 0 }, // a text may begin with MZ too
)

const unknownType = "application/octet-stream"

// CheckFile looks at what somebody uploads: its name, the type that the sender claims (may be empty), and its first
// FileHead bytes. It returns the name as it may be kept and shown, and the type that the name and the bytes agree on.
// Programs and scripts are Invalid, and so is a file that is not what its name or its sender says.
func CheckFile(name, claimed string, head []byte) (clean, ctype string, err error) {
	refuse := func(message string) (string, string, error) {
		return "", "", tandem.InvalidFields(tandem.FieldError{Field: "file", Message: message})
	}
	clean = CleanFileName(name)
	ext := strings.ToLower(path.Ext(clean))
	switch {
	case len(head) == 0:
		return refuse("The file is empty.")
	case slices.Contains(programs, ext) || runs(head):
		return refuse("Programs, scripts and office files with macros are not taken.")
	}
	kind, known := fileKinds[ext]
	if known && !kind.shape(head) {
		return refuse("The file is not what its name says: its content is not that of a " + ext + " file.")
	}
	if claimed, _, err := mime.ParseMediaType(claimed); err == nil {
		if s := shapesOfType[claimed]; s != nil && !s(head) {
			return refuse("The file is not what its sender says: its content is not " + claimed + ".")
		}
	}
	if !known {
		return clean, unknownType, nil
	}
	return clean, kind.ctype, nil
}

// IsActive reports whether a browser that opens a file of this type would run what is inside.
func IsActive(ctype string) bool {
	return slices.Contains([]string{"text/html", "image/svg+xml", "application/xml"}, ctype)
}

var device = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)`)

// CleanFileName is the last part of a name, without whatever could make it lead elsewhere or look like another: parts of
// a path, control characters, changes of the writing direction, dots and spaces at its ends, names of devices.
func CleanFileName(name string) string {
	name = strings.ToValidUTF8(name, "")
	if i := strings.LastIndexAny(name, `/\`); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r), strings.ContainsRune(`<>:"|?*`, r):
			return -1
		}
		return r
	}, name)
	name = strings.Trim(name, " .")
	if device.MatchString(name) {
		name = "_" + name
	}
	if r := []rune(name); len(r) > maxFileName {
		ext := []rune(path.Ext(name))
		if len(ext) > 20 {
			ext = nil
		}
		name = strings.Trim(string(r[:maxFileName-len(ext)])+string(ext), " .")
	}
	if name == "" {
		return "file"
	}
	return name
}
