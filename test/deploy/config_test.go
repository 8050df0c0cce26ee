package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kubectlObjects stands for a kubectl whose namespace holds OBJECTS (a directory), and whose cluster takes none that
// names what another one made of it. REFUSE is a kind that it takes none of.
const kubectlObjects = `
	case $* in
	*"get namespace erlmcp") exit 0 ;;
	"--namespace erlmcp get configmaps -o yaml") exec cat "$OBJECTS/configmaps" ;;
	"--namespace erlmcp get secrets -o yaml") exec cat "$OBJECTS/secrets" ;;
	"apply --filename "*)
		if grep -q -e "^    resourceVersion:" -e "^    uid:" -e "^    ownerReferences:" -e "^    name: kube-root-ca.crt" -e service-account-token "$3"; then
			echo "Operation cannot be fulfilled: the object has been modified" >&2
			exit 1
		fi
		if [ -n "$REFUSE" ] && grep -q "kind: $REFUSE" "$3"; then echo "forbidden" >&2; exit 1; fi
		cat "$3" >> "$TRACE" ;;
	*) echo "unexpected: $*" >&2; exit 1 ;;
	esac`

const configMaps = `apiVersion: v1
items:
- apiVersion: v1
  data:
    ca.crt: |
      -----BEGIN CERTIFICATE-----
  kind: ConfigMap
  metadata:
    creationTimestamp: "2026-01-01T00:00:00Z"
    name: kube-root-ca.crt
    resourceVersion: "1"
    uid: aa
- apiVersion: v1
  data:
    erlmcp.yaml: |
      metadata:
        uid: of-the-file
      - name: x

      resourceVersion: of-the-file
  kind: ConfigMap
  metadata:
    creationTimestamp: "2026-01-01T00:00:00Z"
    labels:
      app: erlmcp
      uid: of-the-label
    managedFields:
    - apiVersion: v1
      manager: helm
    name: erlmcp-config
    ownerReferences:
    - kind: Namespace
      uid: bb
    resourceVersion: "2"
    uid: cc
kind: List
metadata:
  resourceVersion: ""
`

const secrets = `apiVersion: v1
items:
- apiVersion: v1
  data:
    erlang-cookie: Y29va2ll
  kind: Secret
  metadata:
    creationTimestamp: "2026-01-01T00:00:00Z"
    name: erlmcp-secrets
    resourceVersion: "3"
    uid: dd
  type: Opaque
- apiVersion: v1
  data:
    token: dG9rZW4=
  kind: Secret
  metadata:
    name: default-token
  type: kubernetes.io/service-account-token
kind: List
metadata:
  resourceVersion: ""
`

const applied = `apiVersion: v1
items:
- apiVersion: v1
  data:
    erlang-cookie: Y29va2ll
  kind: Secret
  metadata:
    name: erlmcp-secrets
  type: Opaque
kind: List
metadata:
  resourceVersion: ""
apiVersion: v1
items:
- apiVersion: v1
  data:
    erlmcp.yaml: |
      metadata:
        uid: of-the-file
      - name: x
      resourceVersion: of-the-file
  kind: ConfigMap
  metadata:
    labels:
      app: erlmcp
      uid: of-the-label
    name: erlmcp-config
kind: List
metadata:
  resourceVersion: ""`

func TestConfigurationComesBackIntoANamespaceMadeAnew(t *testing.T) {
	objects := t.TempDir()
	for name, text := range map[string]string{"configmaps": configMaps, "secrets": secrets} {
		if err := os.WriteFile(filepath.Join(objects, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stand := newStandIns(t, map[string]string{"kubectl": kubectlObjects, "helm": "exit 1"})
	stand.Env = append(stand.Env, "OBJECTS="+objects)
	dir := t.TempDir()
	runs(t, stand.Env, "backup-config.sh", "--to", dir)
	saved := onlyFile(t, filepath.Join(dir, "erlmcp-config-*.tar.gz"))

	// A former release saved objects as they were.
	former := t.TempDir()
	sealed := filepath.Join(former, "former.tar.gz")
	shell(t, `. deploy/scripts/lib.sh; mkdir "$1/kubernetes"; for kind in configmaps secrets; do cp "$2/$kind" "$1/kubernetes/$kind.yaml"; done; seal "$1" "$3"`, t.TempDir(), objects, sealed)
	for _, file := range []string{saved, sealed} {
		runs(t, stand.Env, "restore-config.sh", file, "--cluster", "--dry-run")
		if done := stand.trace(t); len(done) > 0 {
			t.Errorf("a dry run applied %q", done)
		}
		runs(t, stand.Env, "restore-config.sh", file, "--cluster")
		if diff := cmp.Diff(strings.Split(applied, "\n"), stand.trace(t)); diff != "" {
			t.Errorf("%s was applied as\n%s", file, diff)
		}
	}
	refuses(t, stand.with("REFUSE=Secret"), "refused some of: secrets", "restore-config.sh", saved, "--cluster")
	if done := strings.Join(stand.trace(t), "\n"); !strings.Contains(done, "erlmcp-config") {
		t.Errorf("after refused Secrets only this was applied: %q", done)
	}
}

func TestDryRunsOfConfigurationSayWhatTheyWouldDoAndDoNothing(t *testing.T) {
	work, dir := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(work, ".env.prod"), []byte("A=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	backup := func(args ...string) string {
		t.Helper()
		out, err := scriptIn(t, work, nil, "backup-config.sh", append(args, "--no-cluster", "--to", dir)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	empty := func(dir string) {
		t.Helper()
		if found, err := os.ReadDir(dir); err != nil || len(found) > 0 {
			t.Errorf("a dry run left %v, %v", found, err)
		}
	}
	if out := backup("--dry-run"); !strings.Contains(out, "would save .env.prod as "+dir) {
		t.Errorf("a dry run says\n%s", out)
	}
	empty(dir)
	backup()
	into := t.TempDir()
	out := runs(t, nil, "restore-config.sh", onlyFile(t, filepath.Join(dir, "erlmcp-config-*.tar.gz")), "--into", into, "--dry-run")
	if !strings.Contains(out, "would run: cp") || strings.Contains(out, "restored") {
		t.Errorf("a dry run says\n%s", out)
	}
	empty(into)
}

func TestConfigurationIsSavedEncryptedAndComesBackWithItsPassphrase(t *testing.T) {
	work, dir, into := t.TempDir(), t.TempDir(), t.TempDir()
	right, wrong := filepath.Join(t.TempDir(), "right"), filepath.Join(t.TempDir(), "wrong")
	for path, text := range map[string]string{filepath.Join(work, ".env.prod"): "SECRET=kept\n", right: "correct horse\n", wrong: "battery staple\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := scriptIn(t, work, nil, "backup-config.sh", "--no-cluster", "--to", dir, "--passphrase-file", right); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	saved := onlyFile(t, filepath.Join(dir, "erlmcp-config-*.enc"))
	if text, err := os.ReadFile(saved); err != nil || !strings.HasSuffix(saved, ".enc") || strings.Contains(string(text), "kept") {
		t.Errorf("%s is not encrypted: %v", saved, err)
	}
	refuses(t, nil, "can't be ", "restore-config.sh", saved, "--into", into, "--passphrase-file", wrong)
	runs(t, nil, "restore-config.sh", saved, "--into", into, "--passphrase-file", right)
	if got, err := os.ReadFile(filepath.Join(into, ".env.prod")); string(got) != "SECRET=kept\n" {
		t.Errorf("%q, %v", got, err)
	}
}
