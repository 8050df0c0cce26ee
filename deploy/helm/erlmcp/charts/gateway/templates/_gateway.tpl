{{- /* What the gateway's pods have that others have not. */ -}}
{{- define "erlmcp.gateway.ports" -}}
- {name: api, containerPort: 8080}
- {name: http, containerPort: 8081}
- {name: ws, containerPort: 8082}
- {name: sse, containerPort: 8083}
{{- end }}
{{- define "erlmcp.gateway.volumeMounts" -}}
{{- if .Values.tls.clients }}
- {name: tls, mountPath: /etc/erlmcp/tls, readOnly: true}
{{- end }}
{{- end }}
{{- define "erlmcp.gateway.volumes" -}}
{{- if .Values.tls.clients }}
- name: tls
  secret: {secretName: {{ include "erlmcp.tlsSecret" . }}, defaultMode: 0440}
{{- end }}
{{- end }}
{{- define "erlmcp.gateway.env" -}}
{{- if .Values.tls.clients }}
- {name: ERLMCP_HTTPS_CERT_FILE, value: /etc/erlmcp/tls/tls.crt}
- {name: ERLMCP_HTTPS_KEY_FILE, value: /etc/erlmcp/tls/tls.key}
{{- end }}
{{- end }}
