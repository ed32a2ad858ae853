{{/* A process of ours as container fields: image, verb, environment, mounts. Takes root, verb, resources and, optionally, env. */}}
{{- define "knative.process" -}}
{{ include "pickspin.image" .root }}
command: [pickspin, {{ .verb }}]
securityContext:
  {{- include "pickspin.restricted" .root | nindent 2 }}
env:
  {{- include "pickspin.environment" .root | nindent 2 }}
  {{- with .env }}
  {{- . | nindent 2 }}
  {{- end }}
volumeMounts:
  {{- include "pickspin.mounts" .root | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end -}}

{{/* A Deployment of one process that serves no HTTP. Takes root, component, verb, replicas, resources, env. */}}
{{- define "knative.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels:
    {{- include "pickspin.labels" . | nindent 4 }}
spec:
  replicas: {{ .replicas }}
  selector:
    matchLabels:
      {{- include "pickspin.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "pickspin.labels" . | nindent 8 }}
      annotations:
        checksum/catalogue: {{ .root.Values.global.catalogue | toJson | sha256sum }}
    spec:
      serviceAccountName: {{ .root.Release.Name }}
      enableServiceLinks: false
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 45
      {{- include "pickspin.pullSecrets" .root | nindent 6 }}
      containers:
        - name: {{ .component }}
          {{- include "knative.process" . | nindent 10 }}
      volumes:
        {{- include "pickspin.volumes" .root | nindent 8 }}
{{- end -}}
