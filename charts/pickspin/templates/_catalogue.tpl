{{/* Shared by the three charts: knative/ and keda/ hold copies of this file, written by `make schemas`. */}}

{{/* A model id as a slug: lower case, everything but a-z and 0-9 becomes one hyphen. */}}
{{- define "pickspin.slugOf" -}}
{{- regexReplaceAll "[^a-z0-9]+" (lower .) "-" | trimAll "-" -}}
{{- end -}}

{{- define "pickspin.labels" -}}
app.kubernetes.io/name: pickspin
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "pickspin.selector" -}}
app.kubernetes.io/name: pickspin
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The enabled services as a JSON array, defaults filled in and cross-checked (what JSON Schema cannot say). */}}
{{- define "pickspin.services" -}}
{{- $global := .Values.global -}}
{{- $catalogue := $global.catalogue -}}
{{- $models := dict -}}
{{- range $catalogue.models -}}
  {{- if hasKey $models .id }}{{ fail (printf "catalogue: two models with the id %s" .id) }}{{ end -}}
  {{- $_ := set $models .id . -}}
{{- end -}}
{{- $seen := dict -}}
{{- $first := dict -}}
{{- $found := list -}}
{{- range $index, $service := $catalogue.services -}}
  {{- $model := get $models $service.model -}}
  {{- if not $model }}{{ fail (printf "catalogue: services[%d] names the unknown model %s" $index $service.model) }}{{ end -}}
  {{- $backend := $service.backend | default dict -}}
  {{- $kind := $backend.kind | default "llamacpp" -}}
  {{- $slug := $service.slug | default "" -}}
  {{- if not $slug -}}
    {{- $slug = include "pickspin.slugOf" $service.model -}}
    {{- if hasKey $first $service.model }}{{ $slug = printf "%s--%s" $slug $kind }}{{ end -}}
  {{- end -}}
  {{- $_ := set $first $service.model true -}}
  {{- if hasKey $seen $slug }}{{ fail (printf "catalogue: two services on the slug %s" $slug) }}{{ end -}}
  {{- $_ := set $seen $slug true -}}
  {{- if has $slug (list "retry" "batch" "auto" "_scaler") }}{{ fail (printf "catalogue: the slug %s is reserved" $slug) }}{{ end -}}
  {{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$" $slug) }}{{ fail (printf "catalogue: the slug %s is not a DNS label of at most 50 characters" $slug) }}{{ end -}}
  {{- $tier := $model.tier | default "L1" -}}
  {{- $min := index ($catalogue.warm_pool | default dict) $tier | default 0 -}}
  {{- if not (kindIs "invalid" $service.min_warm) }}{{ $min = $service.min_warm }}{{ end -}}
  {{- $max := $service.max_replicas | default 1 -}}
  {{- $partitions := $service.partitions | default 12 -}}
  {{- if gt (int $max) (int $partitions) }}{{ fail (printf "catalogue: service %s may have %d replicas but its topic only %d partitions" $slug (int $max) (int $partitions)) }}{{ end -}}
  {{- if gt (int $min) (int $max) }}{{ fail (printf "catalogue: service %s keeps %d replicas warm but may have only %d" $slug (int $min) (int $max)) }}{{ end -}}
  {{- $enabled := true -}}
  {{- if kindIs "bool" $service.enabled }}{{ $enabled = $service.enabled }}{{ end -}}
  {{- if $enabled -}}
    {{- $weights := $model.weights | default dict -}}
    {{- $found = append $found (dict
      "slug" $slug "model" $service.model "kind" $kind
      "path" ($weights.path | default "") "url" ($weights.url | default "")
      "topic" (printf "%sinfer.model.%s" $global.topicPrefix $slug)
      "group" (printf "%sinfer-model-%s" $global.topicPrefix $slug)
      "concurrency" ($service.concurrency | default 4 | int)
      "gpu" ($service.gpu | default "none") "gpuShare" ($service.gpu_share | default 0)
      "min" ($min | int) "max" ($max | int) "partitions" ($partitions | int)
      "idle" ($service.idle_s | default 300 | int)
      "timeout" ($service.timeout_s | default 600 | int)
      "startTimeout" ($service.start_timeout_s | default 120 | int)
      "workload" ($service.workload | default "knative")) -}}
  {{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* KEDA triggers of one service: lag of its interactive and of its batch topic. Takes root and service. */}}
{{- define "pickspin.triggers" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $kafka := $root.Values.global.kafka -}}
{{- $threshold := max 1 (round (mulf $root.Values.global.scaling.lagShare $service.concurrency) 0 | int) -}}
{{- $triggers := list -}}
{{- range $topic := list $service.topic (printf "%s.batch" $service.topic) -}}
  {{- $trigger := dict "type" "kafka" "metadata" (dict
    "bootstrapServers" $kafka.bootstrap
    "consumerGroup" $service.group
    "topic" $topic
    "lagThreshold" ($threshold | toString)
    "activationLagThreshold" "0"
    "offsetResetPolicy" "earliest"
    "allowIdleConsumers" "false"
    "version" $kafka.version) -}}
  {{- if $kafka.secret -}}
    {{- $_ := set $trigger "authenticationRef" (dict "name" (printf "%s-kafka" $root.Release.Name)) -}}
  {{- end -}}
  {{- $triggers = append $triggers $trigger -}}
{{- end -}}
{{- toJson $triggers -}}
{{- end -}}

{{/* The ScaledObject's spec of one service without its target. Takes root and service. */}}
{{- define "pickspin.scaling" -}}
{{- $service := .service -}}
{{- $scaling := .root.Values.global.scaling -}}
{{- $up := $scaling.scaleUp -}}
{{- $down := $scaling.scaleDown -}}
{{- toJson (dict
  "minReplicaCount" $service.min
  "maxReplicaCount" $service.max
  "pollingInterval" ($scaling.pollingIntervalSeconds | int)
  "cooldownPeriod" $service.idle
  "initialCooldownPeriod" (max $scaling.initialCooldownSeconds $service.startTimeout)
  "advanced" (dict "horizontalPodAutoscalerConfig" (dict "behavior" (dict
    "scaleUp" (dict "stabilizationWindowSeconds" ($up.windowSeconds | int)
      "policies" (list (dict "type" "Pods" "value" ($up.pods | int) "periodSeconds" ($up.periodSeconds | int))))
    "scaleDown" (dict "stabilizationWindowSeconds" ($down.windowSeconds | int)
      "policies" (list (dict "type" "Pods" "value" ($down.pods | int) "periodSeconds" ($down.periodSeconds | int)))))))
  "triggers" (include "pickspin.triggers" (dict "root" .root "service" $service) | fromJsonArray)) -}}
{{- end -}}

{{/* Environment of every process of ours: log, store, data. */}}
{{- define "pickspin.environment" -}}
{{- $global := .Values.global -}}
- {name: PICKSPIN_BROKER_BOOTSTRAP, value: {{ $global.kafka.bootstrap | quote }}}
- {name: PICKSPIN_BROKER_KIND, value: kafka}
- {name: PICKSPIN_BROKER_SECURITY_PROTOCOL, value: {{ $global.kafka.securityProtocol }}}
- {name: PICKSPIN_BROKER_REPLY_PARTITIONS, value: {{ $global.kafka.partitions.replies | quote }}}
- {name: PICKSPIN_CATALOGUE, value: /etc/pickspin/catalogue.yaml}
- {name: PICKSPIN_DATA_DIR, value: /data}
{{- with $global.topicPrefix }}
- {name: PICKSPIN_BROKER_PREFIX, value: {{ . | quote }}}
{{- end }}
{{- if hasPrefix "SASL" $global.kafka.securityProtocol }}
- {name: PICKSPIN_BROKER_SASL_MECHANISM, value: {{ required "global.kafka.saslMechanism is needed with SASL" $global.kafka.saslMechanism }}}
- name: PICKSPIN_BROKER_SASL_USERNAME
  valueFrom: {secretKeyRef: {name: {{ $global.kafka.secret }}, key: username}}
- name: PICKSPIN_BROKER_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $global.kafka.secret }}, key: password}}
{{- end }}
{{- if hasSuffix "SSL" $global.kafka.securityProtocol }}
- {name: PICKSPIN_BROKER_SSL_CAFILE, value: /etc/pickspin-kafka/ca.crt}
{{- end }}
{{- end -}}

{{- define "pickspin.storeEnvironment" -}}
{{- $store := .Values.global.store -}}
- name: PICKSPIN_STORE_URL
{{- if $store.url }}
  value: {{ $store.url | quote }}
{{- else }}
  valueFrom: {secretKeyRef: {name: {{ $store.secret }}, key: url}}
{{- end }}
{{- end -}}

{{- define "pickspin.mounts" -}}
- {name: catalogue, mountPath: /etc/pickspin, readOnly: true}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if ne .Values.global.kafka.securityProtocol "PLAINTEXT" }}
- {name: kafka, mountPath: /etc/pickspin-kafka, readOnly: true}
{{- end }}
{{- end -}}

{{- define "pickspin.volumes" -}}
- {name: catalogue, configMap: {name: {{ .Release.Name }}-catalogue}}
- {name: data, persistentVolumeClaim: {claimName: {{ .Values.global.dataClaim }}}}
- {name: tmp, emptyDir: {}}
{{- if ne .Values.global.kafka.securityProtocol "PLAINTEXT" }}
- {name: kafka, secret: {secretName: {{ required "global.kafka.secret is needed unless securityProtocol is PLAINTEXT" .Values.global.kafka.secret }}}}
{{- end }}
{{- end -}}

{{/* The restricted Pod Security Standard, said on the container: a Knative Service takes it nowhere else. */}}
{{- define "pickspin.restricted" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "pickspin.image" -}}
image: {{ printf "%s:%s" .Values.global.image.repository .Values.global.image.tag | quote }}
imagePullPolicy: {{ .Values.global.image.pullPolicy }}
{{- end -}}

{{- define "pickspin.pullSecrets" -}}
{{- with .Values.global.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
