{{- /*
What the schema can't see: values that would be ignored, or that can't work together. NOTES.txt includes it, which every
command evaluates.
*/ -}}
{{- define "erlmcp.checks" -}}
{{- $v := .Values -}}
{{- if contains "change-me" ($v.erlmcp.erlang.cookie | default "") -}}
{{ fail "erlmcp.erlang.cookie is the example's: give one of your own (openssl rand -base64 48), or none and one is made" }}
{{- end -}}
{{- if and $v.erlmcp.erlang.existingSecret (or $v.erlmcp.erlang.cookie $v.adminKey) -}}
{{ fail (printf "erlmcp.erlang.existingSecret names a Secret, so erlmcp.erlang.cookie and adminKey would be ignored: put them into %s as erlang-cookie and admin-key" $v.erlmcp.erlang.existingSecret) }}
{{- end -}}
{{- if and $v.database.existingSecret (or $v.database.password $v.database.host) -}}
{{ fail (printf "database.existingSecret names a Secret, so database.host and database.password would be ignored: put them into %s as db-host and db-password" $v.database.existingSecret) }}
{{- end -}}
{{- if and $v.postgres.enabled $v.database.host -}}
{{ fail "database.host would be ignored while postgres.enabled is true: set it to false" }}
{{- end -}}
{{- if and $v.redis.enabled $v.externalRedis.host -}}
{{ fail "externalRedis.host would be ignored while redis.enabled is true: set it to false" }}
{{- end -}}
{{- range $role := splitList " " (include "erlmcp.roles" .) -}}
{{- $own := include "erlmcp.values" (list $ $role) | fromYaml -}}
{{- if ge (add (int $own.preStopSeconds) (int $v.drainSeconds) 5) (int $own.terminationGracePeriodSeconds) -}}
{{ fail (printf "%s: preStopSeconds (%v) + drainSeconds (%v) + 5 must be below terminationGracePeriodSeconds (%v), or open work is cut off" $role $own.preStopSeconds $v.drainSeconds $own.terminationGracePeriodSeconds) }}
{{- end -}}
{{- end -}}
{{- end }}
