{{- /*
Names and pieces that several templates share. A release named erlmcp gives the names of the deployment guide:
StatefulSet erlmcp-cluster, Services erlmcp and erlmcp-headless, Secrets erlmcp-secrets, erlmcp-db, erlmcp-tls.
*/ -}}

{{- define "erlmcp.roles" -}}gateway session registry metrics{{- end }}

{{- /* erlmcp.name (list $ role): a StatefulSet's name */ -}}
{{- define "erlmcp.name" -}}
{{- $root := index . 0 }}{{ $role := index . 1 -}}
{{ $root.Release.Name }}-{{ ternary "cluster" $role (eq $role "gateway") }}
{{- end }}

{{- /* erlmcp.headless (list $ role): the Service that names each of its pods */ -}}
{{- define "erlmcp.headless" -}}
{{- $root := index . 0 }}{{ $role := index . 1 -}}
{{ $root.Release.Name }}-{{ ternary "headless" $role (eq $role "gateway") }}
{{- end }}

{{- define "erlmcp.grpcPort" -}}
{{- $root := index . 0 }}{{ $role := index . 1 -}}
{{ add (int $root.Values.erlmcp.erlang.distPort) (get (dict "gateway" 1 "session" 2 "registry" 3 "metrics" 4) $role) }}
{{- end }}

{{- /* erlmcp.values (list $ role): what holds for a role's pods, as YAML; "erlmcp" has the gateway's. */ -}}
{{- define "erlmcp.values" -}}
{{- $root := index . 0 }}{{ $role := index . 1 -}}
{{- $shared := pick $root.Values.erlmcp "nodeSelector" "affinity" "tolerations" "priorityClassName" -}}
{{- $own := deepCopy (index $root.Values $role) -}}
{{- if eq $role "gateway" }}{{ $own = mergeOverwrite $own (deepCopy $root.Values.erlmcp) }}{{ end -}}
{{ mergeOverwrite (deepCopy $shared) $own | toYaml }}
{{- end }}

{{- define "erlmcp.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ if .Values.image.registry }}{{ .Values.image.registry }}/{{ end }}{{ .Values.image.repository }}:{{ $tag }}
{{- end }}

{{- define "erlmcp.selector" -}}
app: erlmcp
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "erlmcp.labels" -}}
{{ include "erlmcp.selector" . }}
app.kubernetes.io/name: erlmcp
app.kubernetes.io/part-of: erlmcp
{{- if not .Values.plain }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- end }}

{{- define "erlmcp.secret" -}}{{ .Values.erlmcp.erlang.existingSecret | default (printf "%s-secrets" .Release.Name) }}{{- end }}
{{- define "erlmcp.dbSecret" -}}{{ .Values.database.existingSecret | default (printf "%s-db" .Release.Name) }}{{- end }}
{{- define "erlmcp.redisSecret" -}}{{ .Values.externalRedis.existingSecret | default (printf "%s-redis" .Release.Name) }}{{- end }}
{{- define "erlmcp.tlsSecret" -}}{{ .Values.tls.existingSecret | default (printf "%s-tls" .Release.Name) }}{{- end }}

{{- define "erlmcp.expectedNodes" -}}
{{- $n := 0 -}}
{{- range $role := splitList " " (include "erlmcp.roles" .) -}}
{{- $n = add $n (int (include "erlmcp.values" (list $ $role) | fromYaml).replicaCount) -}}
{{- end -}}
{{ $n }}
{{- end }}

{{- define "erlmcp.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "erlmcp.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What holds for every process and is no secret: the ConfigMap's variables. */ -}}
{{- define "erlmcp.settings" -}}
ERLMCP_ENV: {{ .Values.global.environment | quote }}
ERLMCP_LOG_LEVEL: {{ .Values.logging.level | quote }}
ERLMCP_LOG_FORMAT: {{ .Values.logging.format | quote }}
ERLMCP_DATA_DIR: /var/lib/erlmcp
ERLMCP_DRAIN_TIME: {{ .Values.drainSeconds }}s
ERL_AFLAGS: "-proto_dist {{ .Values.erlmcp.erlang.distribution }}"
ERL_DIST_PORT: {{ .Values.erlmcp.erlang.distPort | quote }}
ERLANG_DISTRIBUTION_PORT_RANGE: {{ .Values.erlmcp.erlang.portRange | quote }}
{{- range $role := list "session" "registry" "metrics" }}
ERLMCP_{{ upper $role }}_ADDR: dns:///{{ include "erlmcp.headless" (list $ $role) }}:{{ include "erlmcp.grpcPort" (list $ $role) }}
{{- end }}
ERLMCP_DB_PORT: {{ .Values.database.port | quote }}
ERLMCP_DB_SSLMODE: {{ .Values.database.sslmode | quote }}
{{- if .Values.redis.enabled }}
REDIS_HOST: {{ .Release.Name }}-redis
REDIS_PORT: "6379"
{{- else }}
REDIS_HOST: {{ .Values.externalRedis.host | quote }}
REDIS_PORT: {{ .Values.externalRedis.port | quote }}
REDIS_MODE: {{ .Values.externalRedis.mode | quote }}
REDIS_TLS: {{ .Values.externalRedis.tls | quote }}
{{- end }}
{{- if .Values.otel.endpoint }}
OTEL_ENABLED: "true"
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .Values.otel.endpoint | quote }}
OTEL_SAMPLING_RATE: {{ .Values.otel.sampling | quote }}
OTEL_RESOURCE_ATTRIBUTES: "cloud.region={{ .Values.global.region }}"
{{- end }}
{{- range $name, $value := .Values.env }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* The environment of every process that is not in the ConfigMap: who it is, and where the secrets are. */ -}}
{{- define "erlmcp.env" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- {name: ERLMCP_NODE_NAME, value: "erlmcp@$(POD_NAME)"}
- {name: ERLANG_COOKIE_FILE, value: /etc/erlmcp/secrets/erlang-cookie}
{{ include "erlmcp.databaseEnv" (list . (include "erlmcp.dbSecret" .)) }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "erlmcp.redisSecret" . }}, key: redis-password, optional: true}}
{{- end }}

{{- define "erlmcp.secretsVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret: {name: {{ include "erlmcp.secret" . }}, items: [{key: erlang-cookie, path: erlang-cookie}]}
      {{- include "erlmcp.databaseSources" (list . (include "erlmcp.dbSecret" .)) | nindent 6 }}
{{- end }}

{{- /* erlmcp.databaseEnv (list $ secret): how a process finds Postgres; its files are erlmcp.databaseSources'. */ -}}
{{- define "erlmcp.databaseEnv" -}}
{{- $root := index . 0 }}{{ $secret := index . 1 -}}
{{- if $root.Values.postgres.enabled -}}
- {name: ERLMCP_DB_HOST, value: {{ $root.Release.Name }}-postgres}
{{- else -}}
- name: ERLMCP_DB_HOST
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: db-host}}
{{- end }}
{{- range $variable, $key := dict "ERLMCP_DB_NAME" "db-name" "ERLMCP_DB_USER" "db-user" }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ $key }}}}
{{- end }}
- {name: ERLMCP_DB_PASSWORD_FILE, value: /etc/erlmcp/secrets/db-password}
{{- if $root.Values.database.caSecret }}
- {name: PGSSLROOTCERT, value: /etc/erlmcp/secrets/db-ca.crt}
{{- end }}
{{- end }}

{{- define "erlmcp.databaseSources" -}}
{{- $root := index . 0 }}{{ $secret := index . 1 -}}
- secret: {name: {{ $secret }}, items: [{key: db-password, path: db-password}]}
{{- with $root.Values.database.caSecret }}
- secret: {name: {{ . }}, items: [{key: ca.crt, path: db-ca.crt}]}
{{- end }}
{{- end }}

{{- /* erlmcp.databaseData (list $ name): what the Secret for the database holds. A password that is not given is made
       once and kept in the Secret of this name. */ -}}
{{- define "erlmcp.databaseData" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $v := $root.Values -}}
db-host: {{ ternary (printf "%s-postgres" $root.Release.Name) $v.database.host $v.postgres.enabled | b64enc }}
db-name: {{ $v.database.name | b64enc }}
db-user: {{ $v.database.user | b64enc }}
{{- if $v.database.password }}
db-password: {{ $v.database.password | b64enc }}
{{- else }}
db-password: {{ include "erlmcp.kept" (list $root $name "db-password" (randAlphaNum 40)) }}
{{- end }}
{{- end }}

{{- /* erlmcp.kept (list $ secret key fallback): what a Secret of the cluster holds, else the fallback; base64. */ -}}
{{- define "erlmcp.kept" -}}
{{- $root := index . 0 -}}
{{- $held := lookup "v1" "Secret" $root.Release.Namespace (index . 1) -}}
{{- $value := "" -}}
{{- if $held }}{{ $value = get ($held.data | default dict) (index . 2) }}{{ end -}}
{{ $value | default (index . 3 | b64enc) }}
{{- end }}
