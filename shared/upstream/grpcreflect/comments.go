package grpcreflect

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// comment returns what the source says of d, as paragraphs without line breaks inside; empty where the server
// does not carry comments.
func comment(d protoreflect.Descriptor, limit int) string {
	file := d.ParentFile()
	if file == nil {
		return ""
	}
	location := file.SourceLocations().ByDescriptor(d)
	text := location.LeadingComments
	if strings.TrimSpace(text) == "" {
		text = location.TrailingComments
	}
	var b strings.Builder
	gap := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "buf:lint:"):
		case line == "":
			if b.Len() > 0 {
				gap = "\n\n"
			}
		default:
			if b.Len() > 0 && gap == "" {
				if gap = " "; listItem(line) {
					gap = "\n"
				}
			}
			b.WriteString(gap)
			b.WriteString(line)
			gap = ""
		}
		if b.Len() > limit {
			break
		}
	}
	return shorten(b.String(), limit)
}

func listItem(line string) bool {
	return strings.HasPrefix(line, "- ") || strings.HasPrefix(line, "* ")
}

// shorten cuts text to at most limit bytes of UTF-8, and shows that it did.
func shorten(text string, limit int) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= limit {
		return text
	}
	if limit <= len("…") {
		return ""
	}
	end := limit - len("…")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// words makes "place order" of PlaceOrder.
func words(name string) string {
	var b strings.Builder
	previous := rune(0)
	for i, r := range name {
		next, _ := utf8.DecodeRuneInString(name[i+utf8.RuneLen(r):])
		switch {
		case r == '_':
			r = ' '
		case unicode.IsUpper(r) && i > 0 && previous != ' ' && (!unicode.IsUpper(previous) || unicode.IsLower(next)):
			b.WriteByte(' ')
			fallthrough
		default:
			if unicode.IsUpper(r) && !unicode.IsUpper(next) {
				r = unicode.ToLower(r)
			}
		}
		b.WriteRune(r)
		previous = rune(name[i])
	}
	return b.String()
}

// sentence starts text with a capital letter.
func sentence(text string) string {
	r, size := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[size:]
}
