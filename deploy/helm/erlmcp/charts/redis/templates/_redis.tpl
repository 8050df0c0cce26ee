{{- /* One Redis. It reads its password from the Secret that erlmcp reads it from. */ -}}
{{- define "erlmcp.redis" -}}
{{- $v := .Values.redis -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ .Release.Name }}-redis
  namespace: {{ .Release.Namespace }}
  labels: &labels
    app: redis
    app.kubernetes.io/instance: {{ .Release.Name }}
    app.kubernetes.io/part-of: erlmcp
spec:
  serviceName: {{ .Release.Name }}-redis
  replicas: 1
  selector:
    matchLabels:
      app: redis
      app.kubernetes.io/instance: {{ .Release.Name }}
  template:
    metadata:
      labels: *labels
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      securityContext: {runAsNonRoot: true, runAsUser: 999, runAsGroup: 999, fsGroup: 999, fsGroupChangePolicy: OnRootMismatch, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: redis
          securityContext: {{- include "erlmcp.containerSecurity" . | nindent 12 }}
          command: [sh, -c]
          args:
            # The server takes the shell's place, so that the signal to stop reaches it.
            - |
              exec redis-server - <<CONFIG
              requirepass $REDIS_PASSWORD
              dir /data
              appendonly yes
              appendfsync everysec
              maxmemory-policy noeviction
              protected-mode no
              CONFIG
          env:
            - name: REDIS_PASSWORD
              valueFrom: {secretKeyRef: {name: {{ include "erlmcp.redisSecret" . }}, key: redis-password}}
          image: {{ $v.image }}
          imagePullPolicy: {{ $v.pullPolicy }}
          ports:
            - {name: redis, containerPort: 6379}
          startupProbe:
            exec: {command: [sh, -c, "REDISCLI_AUTH=$REDIS_PASSWORD redis-cli ping | grep -q PONG"]}
            periodSeconds: 2
            timeoutSeconds: 5
            failureThreshold: 60
          readinessProbe:
            exec: {command: [sh, -c, "REDISCLI_AUTH=$REDIS_PASSWORD redis-cli ping | grep -q PONG"]}
            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 3
          resources: {{- toYaml $v.resources | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /data}
      {{- if not $v.persistence.enabled }}
      volumes:
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
  name: {{ .Release.Name }}-redis
  namespace: {{ .Release.Namespace }}
  labels:
    app: redis
    app.kubernetes.io/instance: {{ .Release.Name }}
spec:
  selector:
    app: redis
    app.kubernetes.io/instance: {{ .Release.Name }}
  ports:
    - {name: redis, port: 6379, targetPort: redis}
{{- if .Values.networkPolicy.enabled }}
---
# Only erlmcp's pods come in; nothing goes out.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .Release.Name }}-redis
  namespace: {{ .Release.Namespace }}
  labels:
    app: redis
    app.kubernetes.io/instance: {{ .Release.Name }}
spec:
  podSelector:
    matchLabels:
      app: redis
      app.kubernetes.io/instance: {{ .Release.Name }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from:
        - podSelector: {matchLabels: {app: erlmcp, app.kubernetes.io/instance: {{ .Release.Name }}}}
      ports:
        - {protocol: TCP, port: redis}
{{- end }}
{{- end }}
