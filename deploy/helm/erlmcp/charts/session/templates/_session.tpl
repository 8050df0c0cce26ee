{{- /* Session owners have nothing that the other services have not. */ -}}
{{- define "erlmcp.session.ports" -}}{{- end }}
{{- define "erlmcp.session.volumeMounts" -}}{{- end }}
{{- define "erlmcp.session.volumes" -}}{{- end }}
{{- define "erlmcp.session.env" -}}{{- end }}
