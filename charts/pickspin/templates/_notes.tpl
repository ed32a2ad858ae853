{{- define "pickspin.notes" -}}
{{- $services := include "pickspin.services" . | fromJsonArray -}}
{{ .Release.Name }} is installed in {{ .Release.Namespace }}: {{ len $services }} model service{{ if ne (len $services) 1 }}s{{ end }}, all of them at zero until they are asked for.

  kubectl port-forward -n {{ .Release.Namespace }} service/{{ .Release.Name }}-ingress 8080:{{ .Values.knative.ingress.service.port }}
  curl http://127.0.0.1:8080/v1/models -H 'authorization: Bearer KEY'

What each service does, and why not:   pickspin status --cluster -n {{ .Release.Namespace }}
Known pitfalls of this cluster:        pickspin doctor --cluster -n {{ .Release.Namespace }}
{{- range $services }}
{{- $service := . }}
{{- $divides := 0 }}
{{- range $n := untilStep 2 (int .partitions) 1 }}{{ if eq (mod (int $service.partitions) $n) 0 }}{{ $divides = $n }}{{ end }}{{ end }}
{{- if and (gt (int .partitions) 3) (not $divides) }}

WARNING: the topic of {{ .slug }} has {{ .partitions }} partitions, a prime: whatever the number of replicas, some get more of them than others. 6, 12 or 24 share evenly, and a count is for ever.
{{- end }}
{{- if and (gt (int .max) 1) (gt (mul 2 .max | int) (int .partitions)) }}

WARNING: {{ .slug }} may have {{ .max }} replicas on {{ .partitions }} partitions: with fewer than twice as many partitions as replicas, a replica that is busy leaves the others little to take.
{{- end }}
{{- end }}
{{- end -}}
