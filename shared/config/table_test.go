package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestEverySettingIsSoundAndTellsItself(t *testing.T) {
	seen := map[string]string{}
	unique := func(kind, name, key string) {
		if other, taken := seen[kind+name]; taken {
			t.Errorf("%s %s sets both %s and %s", kind, name, other, key)
		}
		seen[kind+name] = key
	}
	documented := map[string]bool{}
	for _, s := range sections {
		documented[s.prefix] = true
	}
	for _, s := range Settings() {
		unique("key", s.Key, s.Key)
		for _, name := range append(append([]string{}, s.Env...), s.EnvFile...) {
			unique("variable", name, s.Key)
		}
		if s.Flag != "" {
			unique("flag", s.Flag, s.Key)
		}
		if len(s.Env) == 0 {
			t.Errorf("%s has no variable", s.Key)
		}
		if !strings.HasSuffix(s.Doc, ".") || strings.Contains(s.Doc, "\n") {
			t.Errorf("%s: the documentation is one line of sentences", s.Key)
		}
		if section, _, nested := strings.Cut(s.Key, "."); nested && !documented[section] {
			t.Errorf("%s is in no section of the documentation", s.Key)
		}
		if s.Secret() && s.Flag != "" {
			t.Errorf("%s: a secret has no flag", s.Key)
		}
		if s.Default != "" {
			if problem, _ := s.assign(&Config{}, s.Default); problem != "" {
				t.Errorf("%s: default %s", s.Key, problem)
			}
		}
	}
}

// Fields that no setting fills: they are derived.
var derived = map[string]bool{
	"Roles": true, "File": true, "Warnings": true, "Servers": true, "DB.Set": true,
	"Redis.Set": true, "Redis.Addrs": true, "Redis.DB": true,
}

func TestEveryFieldIsFilledByASetting(t *testing.T) {
	var c Config
	filled := map[uintptr]bool{}
	for _, s := range Settings() {
		filled[reflect.ValueOf(s.at(&c)).Pointer()] = true
	}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		for i := range v.NumField() {
			f, name := v.Field(i), path+v.Type().Field(i).Name
			switch {
			case !v.Type().Field(i).IsExported() || derived[name]:
			case f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[Material]():
				walk(name+".", f)
			case !filled[f.Addr().Pointer()]:
				t.Errorf("no setting fills %s", name)
			}
		}
	}
	walk("", reflect.ValueOf(&c).Elem())
}

func TestNearest(t *testing.T) {
	names := []string{"ports.http", "ports.ws", "log.level", "limits.max_body"}
	for wrong, want := range map[string]string{
		"ports.htpp": "ports.http", "http": "ports.http", "loglevel": "log.level", "max_body": "limits.max_body",
		"completely.different": "", "x": "",
	} {
		if got := nearest(wrong, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", wrong, got, want)
		}
	}
}

func TestSizesReadWhatTheyWrite(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "4096": 4 << 10, "64KiB": 64 << 10, "16M": 16 << 20, "1 gb": 1 << 30, "5b": 5} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", text, got, err)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s reads as %d", got, again)
		}
	}
	for _, text := range []string{"", "-1", "1.5M", "M", "99999999999G", "1TiB", "1ib", "1iK"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		}
	}
}
