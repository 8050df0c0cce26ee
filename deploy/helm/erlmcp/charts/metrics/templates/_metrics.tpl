{{- /* The metrics service counts the nodes that should live. */ -}}
{{- define "erlmcp.metrics.ports" -}}{{- end }}
{{- define "erlmcp.metrics.volumeMounts" -}}{{- end }}
{{- define "erlmcp.metrics.volumes" -}}{{- end }}
{{- define "erlmcp.metrics.env" -}}
{{- if not .Values.autoscaling.enabled }}
- {name: ERLMCP_EXPECTED_NODES, value: {{ include "erlmcp.expectedNodes" . | quote }}}
{{- end }}
{{- end }}
