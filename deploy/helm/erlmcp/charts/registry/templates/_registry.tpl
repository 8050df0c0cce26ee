{{- /* The registry reads the declared servers, and takes the first administrator's key. */ -}}
{{- define "erlmcp.registry.ports" -}}{{- end }}
{{- define "erlmcp.registry.volumeMounts" -}}
- {name: config, mountPath: /opt/erlmcp/etc, readOnly: true}
{{- end }}
{{- define "erlmcp.registry.volumes" -}}
- name: config
  configMap:
    name: {{ .Release.Name }}-servers
{{- end }}
{{- define "erlmcp.registry.env" -}}
- name: ERLMCP_ADMIN_KEY
  valueFrom: {secretKeyRef: {name: {{ include "erlmcp.secret" . }}, key: admin-key, optional: true}}
{{- end }}
