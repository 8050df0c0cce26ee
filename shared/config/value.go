package config

import (
	"fmt"
	"math"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes.
type Size int64

// String writes a size as it is written in the file.
func (s Size) String() string {
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if one := Size(1) << (30 - 10*i); s >= one && s%one == 0 {
			return strconv.FormatInt(int64(s/one), 10) + unit
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseSize reads a size such as 4096, 64KiB, 16M or 1GB. All units are powers of 1024.
func ParseSize(text string) (Size, error) {
	digits := strings.TrimRight(text, "KMGiBkmgb ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s is no size", quote(text))
	}
	shift, known := map[string]uint{
		"": 0, "b": 0, "k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30,
	}[strings.ToLower(strings.TrimSpace(text[len(digits):]))]
	if !known || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%s is no size", quote(text))
	}
	return Size(n << shift), nil
}

// portRange is "9100-9200" for two ports.
type portRange struct{ ports *Ports }

// assign reads text into the setting's field. It never quotes a secret.
func (s *Setting) assign(c *Config, text string) (problem, fix string) {
	switch at := s.at(c).(type) {
	case *string:
		return s.assignText(at, text)
	case *Environment:
		return s.assignText((*string)(at), text)
	case *RedisMode:
		return s.assignText((*string)(at), text)
	case *bool:
		v, err := strconv.ParseBool(strings.ToLower(text))
		if err != nil {
			return quote(text) + " is neither true nor false", "write true or false"
		}
		*at = v
	case *int:
		v, err := strconv.Atoi(text)
		switch {
		case s.Kind == Port && (err != nil || v < 0 || v > math.MaxUint16):
			return quote(text) + " is no port", "give 0 to 65535; 0 picks a free one"
		case err != nil:
			return quote(text) + " is no whole number", "write digits only"
		}
		*at = v
	case *float64:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || !(v >= 0 && v <= 1) {
			return quote(text) + " is not between 0 and 1", "write a ratio such as 0.01"
		}
		*at = v
	case *time.Duration:
		v, err := time.ParseDuration(text)
		if err != nil {
			return quote(text) + " is no duration", "write a number with its unit, such as 30s, 5m or 1h"
		}
		*at = v
	case *Size:
		v, err := ParseSize(text)
		if err != nil {
			return err.Error(), "write bytes, or a number with its unit, such as 64KiB or 16MiB"
		}
		*at = v
	case *[]string:
		*at = split(text)
	case *Secret:
		*at = Secret(strings.TrimSpace(text))
	case *[]Secret:
		*at = nil
		for _, one := range split(text) {
			*at = append(*at, Secret(one))
		}
	case *Material:
		if !strings.Contains(text, "-----BEGIN ") {
			return "holds no PEM block", "give text that starts with -----BEGIN, or the path of a file with it"
		}
		at.PEM = Secret(text)
	case *portRange:
		low, high, ok := strings.Cut(text, "-")
		a, err1 := strconv.ParseUint(low, 10, 16)
		b, err2 := strconv.ParseUint(high, 10, 16)
		if !ok || err1 != nil || err2 != nil || a > b {
			return quote(text) + " is no range of ports", "write the lowest and the highest, such as 9100-9200"
		}
		at.ports.DistMin, at.ports.DistMax = int(a), int(b)
	default:
		panic(fmt.Sprintf("config: setting %s has a field of type %T, which nothing reads", s.Key, at))
	}
	return "", ""
}

func (s *Setting) assignText(at *string, text string) (problem, fix string) {
	switch s.Kind {
	case Choice:
		for _, c := range s.Choices {
			if text == c {
				*at = text
				return "", ""
			}
		}
		list := oneOf(s.Choices)
		return quote(text) + " is not " + list, didYouMean(text, s.Choices, "write "+list)
	case URL:
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return quote(text) + " is no URL", "write http:// or https:// and a host"
		}
	}
	*at = text
	return "", ""
}

// show writes the setting's value as an operator would.
func (s *Setting) show(c *Config) string {
	switch at := s.at(c).(type) {
	case *string:
		return *at
	case *Environment:
		return string(*at)
	case *RedisMode:
		return string(*at)
	case *bool:
		return strconv.FormatBool(*at)
	case *int:
		return strconv.Itoa(*at)
	case *float64:
		return strconv.FormatFloat(*at, 'g', -1, 64)
	case *time.Duration:
		return trimDuration(*at)
	case *Size:
		return at.String()
	case *[]string:
		return strings.Join(*at, ",")
	case *Secret:
		return at.String()
	case *[]Secret:
		shown := make([]string, len(*at))
		for i := range shown {
			shown[i] = (*at)[i].String()
		}
		return strings.Join(shown, ",")
	case *Material:
		if at.File != "" {
			return at.File
		}
		return at.PEM.String()
	case *portRange:
		if at.ports.DistMax == 0 {
			return ""
		}
		return fmt.Sprintf("%d-%d", at.ports.DistMin, at.ports.DistMax)
	}
	return ""
}

// split cuts a list at commas and line breaks.
func split(text string) []string {
	var list []string
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }) {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

func oneOf(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " or " + list[len(list)-1]
}

// trimDuration writes 25s, 5m and 1h rather than 5m0s and 1h0m0s.
func trimDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// readSecretFile reads the file that a secret is in. Its final line break is not part of the secret.
func readSecretFile(read func(string) ([]byte, error), path string) (string, error) {
	const most = 64 << 10
	data, err := read(path)
	if err != nil {
		if os.IsNotExist(err) {
			return "", fmt.Errorf("there is no file %s", quote(path))
		}
		return "", fmt.Errorf("file %s can't be read", quote(path))
	}
	if len(data) > most {
		return "", fmt.Errorf("file %s is larger than a secret may be, 64 KiB", quote(path))
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("file %s is empty", quote(path))
	}
	return text, nil
}
