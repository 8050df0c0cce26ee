// Command deps prints, as .proto sources, the definitions that ours import. They come from the Go modules
// that carry them, so that buf needs no registry and no copy of them is kept here.
//
//	go run ./internal/deps DIR
package main

import (
	"fmt"
	"os"
	"path/filepath"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/protobuf/reflect/protoregistry"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: deps DIR")
		os.Exit(2)
	}
	for _, path := range []string{"google/api/http.proto", "google/api/annotations.proto", "google/api/httpbody.proto", "buf/validate/validate.proto"} {
		if err := write(os.Args[1], path); err != nil {
			fmt.Fprintf(os.Stderr, "deps: %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

func write(dir, path string) error {
	file, err := protoregistry.GlobalFiles.FindFileByPath(path)
	if err != nil {
		return err
	}
	var p protoprint.Printer
	text, err := p.PrintProtoToString(file)
	if err != nil {
		return err
	}
	target := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, []byte(text), 0o644)
}
