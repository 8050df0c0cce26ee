{{- /* One Postgres. It reads who may come in from the Secret that erlmcp reads it from. */ -}}
{{- define "erlmcp.postgres" -}}
{{- $v := .Values.postgres -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ .Release.Name }}-postgres
  namespace: {{ .Release.Namespace }}
  labels: &labels
    app: postgres
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/part-of: erlmcp
spec:
  serviceName: {{ .Release.Name }}-postgres
  replicas: 1
  selector:
    matchLabels:
      app: postgres
      app.kubernetes.io/instance: {{ .Release.Name }}
  template:
    metadata:
      labels: *labels
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      # The image's own user.
      securityContext: {runAsNonRoot: true, runAsUser: 70, runAsGroup: 70, fsGroup: 70, fsGroupChangePolicy: OnRootMismatch, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: postgres
          securityContext: {{- include "erlmcp.containerSecurity" . | nindent 12 }}
          env:
            # A directory inside the volume, whose root may hold lost+found.
            - {name: PGDATA, value: /var/lib/postgresql/data/pgdata}
            - name: POSTGRES_USER
              valueFrom: {secretKeyRef: {name: {{ include "erlmcp.dbSecret" . }}, key: db-user}}
            - name: POSTGRES_DB
              valueFrom: {secretKeyRef: {name: {{ include "erlmcp.dbSecret" . }}, key: db-name}}
            - name: POSTGRES_PASSWORD
              valueFrom: {secretKeyRef: {name: {{ include "erlmcp.dbSecret" . }}, key: db-password}}
          image: {{ $v.image }}
          imagePullPolicy: {{ $v.pullPolicy }}
          ports:
            - {name: postgres, containerPort: 5432}
          startupProbe:
            exec: {command: [sh, -c, "pg_isready -h 127.0.0.1 -U $POSTGRES_USER -d $POSTGRES_DB"]}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 60
          readinessProbe:
            exec: {command: [sh, -c, "pg_isready -h 127.0.0.1 -U $POSTGRES_USER -d $POSTGRES_DB"]}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 3
          resources: {{- toYaml $v.resources | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /var/lib/postgresql/data}
            - {name: run, mountPath: /var/run/postgresql}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: run
          emptyDir: {}
        - name: tmp
          emptyDir: {}
        {{- if not $v.persistence.enabled }}
        - name: data
          emptyDir: {}
        {{- end }}
  {{- if $v.persistence.enabled }}
  {{- if eq $v.persistence.whenDeleted "Delete" }}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Retain}
  {{- end }}
  volumeClaimTemplates:
    - metadata:
        name: data
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $v.persistence.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ $v.persistence.size }}}}
  {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}-postgres
  namespace: {{ .Release.Namespace }}
  labels:
    app: postgres
    app.kubernetes.io/instance: {{ .Release.Name }}
spec:
  selector:
    app: postgres
    app.kubernetes.io/instance: {{ .Release.Name }}
  ports:
    - {name: postgres, port: 5432, targetPort: postgres}
{{- if .Values.networkPolicy.enabled }}
---
# Only erlmcp's pods come in; nothing goes out.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .Release.Name }}-postgres
  namespace: {{ .Release.Namespace }}
  labels:
    app: postgres
    app.kubernetes.io/instance: {{ .Release.Name }}
spec:
  podSelector:
    matchLabels:
      app: postgres
      app.kubernetes.io/instance: {{ .Release.Name }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector: {matchLabels: {app: erlmcp, app.kubernetes.io/instance: {{ .Release.Name }}}}
      ports:
        - {protocol: TCP, port: postgres}
{{- end }}
{{- end }}
