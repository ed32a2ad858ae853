{{/* Helpers of the three charts: named templates are global to a release, so knative/ and keda/ include them too. */}}

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

{{/* The source of a model's weights has to be pinned: see router_model/classifier/weights_sources.py. */}}
{{- define "pickspin.checkSource" -}}
{{- $weights := .weights -}}
{{- $pinned := regexMatch "^(hf://[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+@[0-9a-f]{40}|oci://[A-Za-z0-9_.:/-]+@sha256:[0-9a-f]{64})$" $weights.source -}}
{{- $held := regexMatch "^(s3://[a-z0-9.-]+(/[A-Za-z0-9_./-]+)?|pvc://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[A-Za-z0-9_./-]+)?)$" $weights.source -}}
{{- if not (or $pinned $held) }}{{ fail (printf "catalogue: model %s: weights.source %s is not pinned or not known: hf://<owner>/<name>@<revision of 40 digits>, oci://<repository>@sha256:<digest>, s3://<bucket>/<prefix>, pvc://<claim>/<path>" .id $weights.source) }}{{ end -}}
{{- if and $held (not $weights.sha256) }}{{ fail (printf "catalogue: model %s: weights.sha256 is needed, nothing else pins what %s holds" .id $weights.source) }}{{ end -}}
{{- if or $weights.path $weights.url $weights.package }}{{ fail (printf "catalogue: model %s: exactly one of package, path, url, source may be given" .id) }}{{ end -}}
{{- end -}}

{{/* Topics and groups of this release. Takes root and slug; without slug `{slug}` is left in those of a service. */}}
{{- define "pickspin.names" -}}
{{- include "pickspin.wireNames" . | replace "{prefix}" .root.Values.global.topicPrefix | replace "{slug}" (.slug | default "{slug}") -}}
{{- end -}}

{{/* An entry of the catalogue with its defaults, as JSON. What is given stays, 0 and false too. Takes kind and entry. */}}
{{- define "pickspin.filledIn" -}}
{{- $entry := index (include "pickspin.catalogueDefaults" . | fromJson) .kind -}}
{{- range $name, $value := .entry -}}
  {{- if not (kindIs "invalid" $value) }}{{ $_ := set $entry $name $value }}{{ end -}}
{{- end -}}
{{- toJson $entry -}}
{{- end -}}

{{/* The slugs of the catalogue's services, in its order, as a JSON array. */}}
{{- define "pickspin.slugs" -}}
{{- $slugs := list -}}
{{- $seen := dict -}}
{{- range .Values.global.catalogue.services -}}
  {{- $slug := include "pickspin.slugOf" .model -}}
  {{- if hasKey $seen .model }}{{ $slug = printf "%s--%s" $slug (include "pickspin.kindOf" .) }}{{ end -}}
  {{- $_ := set $seen .model true -}}
  {{- $slugs = append $slugs (.slug | default $slug) -}}
{{- end -}}
{{- toJson $slugs -}}
{{- end -}}

{{/* The kind of a service's backend. */}}
{{- define "pickspin.kindOf" -}}
{{- (.backend | default dict).kind | default "llamacpp" -}}
{{- end -}}

{{/* The enabled services as a JSON array, defaults filled in. The cross-checks are the loader's, made here too: `helm
     template` and tools that only render run no hook, and a pod that refuses its catalogue says so only in its log. */}}
{{- define "pickspin.services" -}}
{{- $catalogue := .Values.global.catalogue -}}
{{- $models := dict -}}
{{- range $catalogue.models -}}
  {{- if hasKey $models .id }}{{ fail (printf "catalogue: two models with the id %s" .id) }}{{ end -}}
  {{- $_ := set $models .id . -}}
{{- end -}}
{{- $slugs := include "pickspin.slugs" . | fromJsonArray -}}
{{- $reserved := include "pickspin.reservedSlugs" . | fromJsonArray -}}
{{- $seen := dict -}}
{{- $services := list -}}
{{- range $index, $given := $catalogue.services -}}
  {{- $model := get $models $given.model -}}
  {{- if not $model }}{{ fail (printf "catalogue: services[%d] names the unknown model %s" $index $given.model) }}{{ end -}}
  {{- $slug := index $slugs $index -}}
  {{- if hasKey $seen $slug }}{{ fail (printf "catalogue: two services on the slug %s" $slug) }}{{ end -}}
  {{- $_ := set $seen $slug true -}}
  {{- if has $slug $reserved }}{{ fail (printf "catalogue: the slug %s is reserved" $slug) }}{{ end -}}
  {{- if has $slug (list "ingress" "ingress-replicas" "router" "recorder" "callbacks" "scaler" "controller" "requests" "dead-letters" "prepare-log") }}{{ fail (printf "catalogue: the slug %s is the name of a part of the release; give services[%d] another slug" $slug $index) }}{{ end -}}
  {{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$" $slug) }}{{ fail (printf "catalogue: the slug %s is not a DNS label of at most 50 characters" $slug) }}{{ end -}}
  {{- $service := include "pickspin.filledIn" (dict "kind" "Service" "entry" $given) | fromJson -}}
  {{- $filled := include "pickspin.filledIn" (dict "kind" "Model" "entry" $model) | fromJson -}}
  {{- $min := index ($catalogue.warm_pool | default dict) $filled.tier | default 0 -}}
  {{- if not (kindIs "invalid" $service.min_warm) }}{{ $min = $service.min_warm }}{{ end -}}
  {{- $max := $service.max_replicas | int -}}
  {{- $partitions := $service.partitions | int -}}
  {{- if gt $max $partitions }}{{ fail (printf "catalogue: service %s may have %d replicas but its topic only %d partitions" $slug $max $partitions) }}{{ end -}}
  {{- if gt (int $min) $max }}{{ fail (printf "catalogue: service %s keeps %d replicas warm but may have only %d" $slug (int $min) $max) }}{{ end -}}
  {{- if $service.enabled -}}
    {{- $backend := $given.backend | default dict -}}
    {{- $weights := $model.weights | default dict -}}
    {{- $own := include "pickspin.readAtStart" $given | fromJson -}}
    {{- $checksum := dict "model" $model "service" $own "cascades" ($catalogue.cascades | default dict) | toJson | sha256sum | trunc 16 -}}
    {{- $path := $weights.path | default "" -}}
    {{- $claim := "" -}}
    {{- $artefact := "" -}}
    {{- with $weights.source -}}
      {{- include "pickspin.checkSource" $model -}}
      {{- /* The path names the artefact: another one is another path, and what is there never changes. */ -}}
      {{- $artefact = printf "%s %s" . ($weights.sha256 | default "") | sha256sum | trunc 16 -}}
      {{- $claim = printf "%s-weights-%s" $.Release.Name (include "pickspin.slugOf" $model.id | trunc 40 | trimSuffix "-") -}}
      {{- $path = printf "/models/%s%s" $artefact (ternary "" (printf "/%s" ($weights.file | default "")) (not $weights.file)) -}}
    {{- end -}}
    {{- $names := include "pickspin.names" (dict "root" $ "slug" $slug) | fromJson -}}
    {{- $services = append $services (dict
      "slug" $slug "model" $service.model "kind" (include "pickspin.kindOf" $given) "checksum" $checksum
      "path" $path "url" ($weights.url | default "") "claim" $claim "artefact" $artefact
      "args" ($backend.args | default dict) "keyEnv" ($backend.key_env | default "") "context" ($filled.context_length | int)
      "capabilities" $filled.capabilities
      "topics" $names.serviceTopics "group" $names.serviceGroup
      "concurrency" ($service.concurrency | int)
      "gpu" $service.gpu "gpuShare" ($service.gpu_share | default 0)
      "min" ($min | int) "max" $max "partitions" $partitions
      "idle" ($service.idle_s | int)
      "timeout" ($service.timeout_s | int)
      "startTimeout" ($service.start_timeout_s | int)
      "workload" $service.workload
      "hours" (not (empty $service.warm_hours)) "habit" ($service.warm_by_habit | default false)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $services -}}
{{- end -}}

{{/* Triggers of one service. Takes root and service: lag of each of its topics, which alone is enough; then the scaler,
     which says so at once. */}}
{{- define "pickspin.triggers" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $scaling := $root.Values.global.scaling -}}
{{- $threshold := max 1 (round (mulf $scaling.lagShare $service.concurrency) 0 | int) -}}
{{- $triggers := list -}}
{{- range $service.topics -}}
  {{- $triggers = append $triggers (include "pickspin.lagTrigger" (dict "root" $root "group" $service.group "topic" .name "threshold" $threshold) | fromJson) -}}
{{- end -}}
{{- if $root.Values.global.scaler.enabled -}}
  {{- $triggers = append $triggers (dict "type" "external-push" "metadata" (dict
    "scalerAddress" (printf "%s-scaler.%s.svc.cluster.local:6000" $root.Release.Name $root.Release.Namespace)
    "service" $service.slug)) -}}
{{- end -}}
{{- toJson $triggers -}}
{{- end -}}

{{/* A Kafka trigger. Takes root, group, topic and threshold (lag for each replica). */}}
{{- define "pickspin.lagTrigger" -}}
{{- $kafka := .root.Values.global.kafka -}}
{{- $metadata := dict
  "bootstrapServers" $kafka.bootstrap
  "consumerGroup" .group
  "topic" .topic
  "lagThreshold" (.threshold | toString)
  "activationLagThreshold" "0"
  "offsetResetPolicy" "earliest"
  "allowIdleConsumers" "false"
  "version" $kafka.version -}}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}{{ $_ := set $metadata "sasl" (replace "-" "_" $kafka.saslMechanism | lower | replace "sha_" "sha" | replace "plain" "plaintext") }}{{ end -}}
{{- if hasSuffix "SSL" $kafka.securityProtocol }}{{ $_ := set $metadata "tls" "enable" }}{{ end -}}
{{- $trigger := dict "type" "kafka" "metadata" $metadata -}}
{{- if ne $kafka.securityProtocol "PLAINTEXT" -}}
  {{- $_ := set $trigger "authenticationRef" (dict "name" (printf "%s-kafka" .root.Release.Name)) -}}
{{- end -}}
{{- toJson $trigger -}}
{{- end -}}

{{/* "true" if a service is declared asleep: without a first boot; a revision of Knative is always ready once. Takes root
     and service. */}}
{{- define "pickspin.isAsleep" -}}
{{- /* As text: absent, as in the values of an older release, is not false. */ -}}
{{- if and (eq (toString .root.Values.global.scaling.firstBoot) "false") (eq .service.workload "deployment") }}true{{ end -}}
{{- end -}}

{{/* The ScaledObject's spec of one service without its target. Takes root and service. */}}
{{- define "pickspin.scaling" -}}
{{- $service := .service -}}
{{- $scaling := .root.Values.global.scaling -}}
{{- $up := $scaling.scaleUp -}}
{{- $down := $scaling.scaleDown -}}
{{- $isAsleep := eq (include "pickspin.isAsleep" .) "true" -}}
{{- toJson (dict
  "minReplicaCount" $service.min
  "maxReplicaCount" $service.max
  "pollingInterval" ($scaling.pollingIntervalSeconds | int)
  "cooldownPeriod" $service.idle
  "initialCooldownPeriod" (ternary 0 (max $scaling.initialCooldownSeconds $service.startTimeout) $isAsleep)
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
  valueFrom: {secretKeyRef: {name: {{ include "pickspin.kafkaSecret" . }}, key: username}}
- name: PICKSPIN_BROKER_SASL_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "pickspin.kafkaSecret" . }}, key: password}}
{{- end }}
{{- if hasSuffix "SSL" $global.kafka.securityProtocol }}
- {name: PICKSPIN_BROKER_SSL_CAFILE, value: /etc/pickspin-kafka/ca.crt}
{{- if include "pickspin.clientSecret" . }}
- {name: PICKSPIN_BROKER_SSL_CERTFILE, value: /etc/pickspin-kafka/user.crt}
- {name: PICKSPIN_BROKER_SSL_KEYFILE, value: /etc/pickspin-kafka/user.key}
{{- end }}
{{- end }}
{{- end -}}

{{/* Secrets of the log: username and password; the certificate authority (ca.crt); the client's certificate (user.crt,
     user.key) or nothing. Strimzi has names for the last two. */}}
{{- define "pickspin.kafkaSecret" -}}
{{- required "global.kafka.secret is needed with SASL" .Values.global.kafka.secret -}}
{{- end -}}

{{- define "pickspin.caSecret" -}}
{{- $kafka := .Values.global.kafka -}}
{{- if $kafka.caSecret }}{{ $kafka.caSecret -}}
{{- else if $kafka.strimzi.enabled }}{{ printf "%s-cluster-ca-cert" $kafka.strimzi.cluster -}}
{{- else }}{{ required "global.kafka.secret (or caSecret) is needed with SSL" $kafka.secret -}}
{{- end -}}
{{- end -}}

{{- define "pickspin.clientSecret" -}}
{{- $kafka := .Values.global.kafka -}}
{{- if $kafka.clientSecret }}{{ $kafka.clientSecret -}}
{{- else if and $kafka.strimzi.enabled $kafka.strimzi.user (eq $kafka.securityProtocol "SSL") }}{{ printf "%s-kafka" .Release.Name -}}
{{- end -}}
{{- end -}}

{{/* The certificates as a volume, where there is TLS. */}}
{{- define "pickspin.kafkaVolume" -}}
{{- if hasSuffix "SSL" .Values.global.kafka.securityProtocol }}
- name: kafka
  projected:
    sources:
      - secret: {name: {{ include "pickspin.caSecret" . }}, items: [{key: ca.crt, path: ca.crt}]}
      {{- with include "pickspin.clientSecret" . }}
      - secret: {name: {{ . }}, items: [{key: user.crt, path: user.crt}, {key: user.key, path: user.key}]}
      {{- end }}
{{- end }}
{{- end -}}

{{- define "pickspin.kafkaMount" -}}
{{- if hasSuffix "SSL" .Values.global.kafka.securityProtocol }}
- {name: kafka, mountPath: /etc/pickspin-kafka, readOnly: true}
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
{{- include "pickspin.kafkaMount" . }}
{{- end -}}

{{- define "pickspin.volumes" -}}
- {name: data, persistentVolumeClaim: {claimName: {{ .Values.global.dataClaim }}}}
{{ include "pickspin.commonVolumes" . }}
{{- end -}}

{{/* For processes that keep nothing and read no bodies. */}}
{{- define "pickspin.scratchVolumes" -}}
- {name: data, emptyDir: {}}
{{ include "pickspin.commonVolumes" . }}
{{- end -}}

{{- define "pickspin.commonVolumes" -}}
- {name: catalogue, configMap: {name: {{ .Release.Name }}-catalogue}}
- {name: tmp, emptyDir: {}}
{{- include "pickspin.kafkaVolume" . }}
{{- end -}}

{{/* What a worker reads of its service once, at its start, as JSON. What only scales is not part of it: no model starts
     anew for that. Takes an entry of the catalogue's services. */}}
{{- define "pickspin.readAtStart" -}}
{{- $own := omit . "slug" -}}
{{- range include "pickspin.onlyScales" . | fromJsonArray }}{{ $own = omit $own . }}{{ end -}}
{{- toJson $own -}}
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

{{/* `global.settings` as environment, of the names that `only` matches. Whole numbers have no exponent: Helm reads 1000000
     as 1e+06. Takes root and only. */}}
{{- define "pickspin.settings" -}}
{{- $only := .only -}}
{{- range $name, $value := .root.Values.global.settings }}
{{- if regexMatch $only $name }}
{{- $isWhole := and (kindIs "float64" $value) (eq (float64 (int64 $value)) $value) }}
- {name: {{ $name }}, value: {{ ternary (int64 $value | toString) (toString $value) $isWhole | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* A process of ours as container fields: image, verb, environment, mounts. Takes root, verb, resources and, optionally, env. */}}
{{- define "pickspin.process" -}}
{{ include "pickspin.image" .root }}
command: [pickspin, {{ .verb }}]
securityContext:
  {{- include "pickspin.restricted" .root | nindent 2 }}
env:
  {{- include "pickspin.environment" .root | nindent 2 }}
  {{- include "pickspin.settings" (dict "root" .root "only" "") | indent 2 }}
  {{- with .env }}
  {{- . | nindent 2 }}
  {{- end }}
volumeMounts:
  {{- include "pickspin.mounts" .root | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
{{- end -}}

{{/* The restricted standard, said on the pod: where Knative does not stand between. The group may write to volumes. */}}
{{- define "pickspin.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where the probes and metrics of a process with no other door are. */}}
{{- define "pickspin.probePort" -}}9100{{- end -}}

{{/* Those of a process that has them only when told so. */}}
{{- define "pickspin.probeEnvironment" -}}
- {name: PICKSPIN_PROBES_HOST, value: 0.0.0.0}
- {name: PICKSPIN_PROBES_PORT, value: {{ include "pickspin.probePort" . | quote }}}
{{- end -}}

{{/* A Deployment of one process, with a budget where it has several replicas. Takes root, component, verb, replicas,
     resources; optionally env, ports (a list of name and containerPort; one named `probes` is asked for /readyz and
     /healthz), account (the service account, whose token is then mounted), scratch (no data claim: /data is empty),
     reloads (it looks at the catalogue by itself) and scaled (KEDA owns the count). */}}
{{- define "pickspin.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels:
    {{- include "pickspin.labels" . | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .replicas }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "pickspin.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "pickspin.labels" . | nindent 8 }}
      {{- if not .reloads }}
      annotations:
        checksum/catalogue: {{ .root.Values.global.catalogue | toJson | sha256sum }}
      {{- end }}
    spec:
      serviceAccountName: {{ .account | default .root.Release.Name }}
      enableServiceLinks: false
      automountServiceAccountToken: {{ not (not .account) }}
      terminationGracePeriodSeconds: 45
      {{- include "pickspin.podSecurity" .root | nindent 6 }}
      {{- include "pickspin.pullSecrets" .root | nindent 6 }}
      containers:
        - name: {{ .component }}
          {{- include "pickspin.process" . | nindent 10 }}
          {{- with .ports }}
          ports:
            {{- range . }}
            - {name: {{ .name }}, containerPort: {{ .containerPort }}}
            {{- end }}
          {{- end }}
          {{- range .ports }}
          {{- if eq .name "probes" }}
          readinessProbe:
            httpGet: {path: /readyz, port: probes}
            periodSeconds: 5
          livenessProbe:
            httpGet: {path: /healthz, port: probes}
            periodSeconds: 10
            failureThreshold: 6
          {{- end }}
          {{- end }}
      volumes:
        {{- include (ternary "pickspin.scratchVolumes" "pickspin.volumes" (not (not .scratch))) .root | nindent 8 }}
{{- if or .scaled (gt (int .replicas) 1) }}
---
{{ include "pickspin.budget" . }}
{{- end }}
{{- end -}}

{{/* A PodDisruptionBudget: of several replicas one may be away. Takes root and component. */}}
{{- define "pickspin.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels:
    {{- include "pickspin.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "pickspin.selector" . | nindent 6 }}
{{- end -}}

{{/* A consumer of ours that scales on the lag of what it reads, between `replicas` and `maxReplicas`; never to zero: it
     ends what nobody else can end, and holds what nobody else holds. Takes what pickspin.deployment takes, topics (by
     their keys in pickspin.wireNames; the group has the component's) and values (replicas, maxReplicas, lag a replica). */}}
{{- define "pickspin.consumer" -}}
{{- $root := .root -}}
{{- $values := .values -}}
{{- $scaled := gt (int $values.maxReplicas) (int $values.replicas) -}}
{{- include "pickspin.deployment" (merge (dict "replicas" $values.replicas "resources" $values.resources "scaled" $scaled) .) }}
{{- if $scaled }}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ $root.Release.Name }}-{{ .component }}
  labels:
    {{- include "pickspin.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    name: {{ $root.Release.Name }}-{{ .component }}
  minReplicaCount: {{ $values.replicas }}
  maxReplicaCount: {{ $values.maxReplicas }}
  pollingInterval: {{ $root.Values.global.scaling.pollingIntervalSeconds }}
  triggers:
    {{- $names := include "pickspin.names" (dict "root" $root) | fromJson }}
    {{- $group := get $names.groups .component }}
    {{- range .topics }}
    - {{- include "pickspin.lagTrigger" (dict "root" $root "group" $group "topic" (get $names.topics .).name "threshold" ($values.lag | int)) | fromJson | toYaml | nindent 6 }}
    {{- end }}
{{- end }}
{{- end -}}

{{/* A claim, and, where there is no StorageClass, the volume for it: a directory that exists on the node (or on one named
     node), writable for user 10001. Takes root, component, name, volume and size. */}}
{{- define "pickspin.claim" -}}
{{- $static := .volume.hostPath -}}
{{- $path := printf "%s/%s" (.volume.hostPath | default "" | trimSuffix "/") .name -}}
{{- $volume := printf "%s-%s" .root.Release.Namespace .name -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  labels:
    {{- include "pickspin.labels" . | nindent 4 }}
spec:
  accessModes: {{ toJson .volume.accessModes }}
  {{- if $static }}
  storageClassName: ""
  volumeName: {{ $volume }}
  {{- else if .volume.storageClass }}
  storageClassName: {{ .volume.storageClass }}
  {{- end }}
  resources: {requests: {storage: {{ .size }}}}
{{- if $static }}
---
apiVersion: v1
kind: PersistentVolume
metadata:
  name: {{ $volume }}
  labels:
    {{- include "pickspin.labels" . | nindent 4 }}
spec:
  capacity: {storage: {{ .size }}}
  accessModes: {{ toJson .volume.accessModes }}
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  claimRef: {namespace: {{ .root.Release.Namespace }}, name: {{ .name }}}
  {{- if .volume.node }}
  local: {path: {{ $path }}}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions:
            - {key: kubernetes.io/hostname, operator: In, values: [{{ .volume.node }}]}
  {{- else }}
  hostPath: {path: {{ $path }}, type: Directory}
  {{- end }}
{{- end }}
{{- end -}}
