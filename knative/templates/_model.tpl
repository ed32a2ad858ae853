{{/* What the pods of model services are made of. */}}

{{/* The backend's values with the service's own on top. Takes root and service. Fails where there are none. */}}
{{- define "knative.backend" -}}
{{- $models := .root.Values.modelService -}}
{{- $backend := index $models.backends .service.kind -}}
{{- if and (not .service.url) (not $backend) -}}
{{- fail (printf "knative.modelService.backends has no entry for %s, which service %s needs" .service.kind .service.slug) -}}
{{- end -}}
{{- toJson (mergeOverwrite (deepCopy ($backend | default dict)) (deepCopy (index $models.overrides .service.slug | default dict))) -}}
{{- end -}}

{{/* The GPU of one replica: `count` of `resource`, and where such nodes are. Without a GPU, count is 0. Takes root and
     service. A kind of the catalogue with a slash is the resource itself; others are named in `gpus`. */}}
{{- define "knative.gpu" -}}
{{- $service := .service -}}
{{- $gpu := dict "count" 0 -}}
{{- if and (ne $service.gpu "none") (not $service.url) -}}
  {{- $known := index .root.Values.modelService.gpus $service.gpu -}}
  {{- if not $known -}}
    {{- if not (contains "/" $service.gpu) }}{{ fail (printf "knative.modelService.gpus has no entry for %s, the gpu of service %s: say which resource it is on this cluster" $service.gpu $service.slug) }}{{ end -}}
    {{- $known = dict "resource" $service.gpu -}}
  {{- end -}}
  {{- $slices := $known.slices | default 1 -}}
  {{- $count := max 1 (ceil (mulf $service.gpuShare $slices) | int) -}}
  {{- if and $known.sharing (gt $count 1) -}}
    {{- fail (printf "service %s: gpu_share %v is more than one of the %v slices of %s (knative.modelService.gpus): with %s a pod gets one slice, and two are not twice as much" $service.slug $service.gpuShare $slices $service.gpu $known.sharing) -}}
  {{- end -}}
  {{- $gpu = merge (dict "count" $count) $known -}}
{{- end -}}
{{- toJson $gpu -}}
{{- end -}}

{{/* The catalogue as every pod reads it, as JSON: slugs and call timeouts filled in, and weights that a model server beside
     the worker has loaded are, for the worker, an OpenAI-compatible server on localhost. */}}
{{- define "knative.catalogue" -}}
{{- $catalogue := deepCopy .Values.global.catalogue -}}
{{- $backends := .Values.modelService.backends -}}
{{- $inside := dict -}}
{{- $beside := dict -}}
{{- $slugs := include "pickspin.slugs" . | fromJsonArray -}}
{{- $known := dict -}}
{{- range include "pickspin.services" . | fromJsonArray }}{{ $_ := set $known .slug . }}{{ end -}}
{{- range $index, $_ := $catalogue.services -}}
  {{- $kind := include "pickspin.kindOf" . -}}
  {{- $_ := set . "slug" (index $slugs $index) -}}
  {{- $service := get $known .slug -}}
  {{- if $service -}}
    {{- $_ := set . "timeout_s" (include "knative.callTimeout" (dict "root" $ "service" $service "given" .timeout_s) | int) -}}
  {{- end -}}
  {{- if (index $backends $kind | default dict).embedded -}}
    {{- $_ := set $inside .model ($service | default dict).path -}}
  {{- else -}}
    {{- $_ := set $beside .model true -}}
    {{- if eq $kind "llamacpp" -}}
      {{- /* The worker starts a llama.cpp of its own for this kind; here the container beside it is one. */ -}}
      {{- $_ := set . "backend" (dict "kind" "openai") -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $catalogue.models -}}
  {{- if not (.weights | default dict).url -}}
    {{- if and (hasKey $inside .id) (hasKey $beside .id) }}{{ fail (printf "catalogue: model %s has services whose server is in the worker and others whose server is beside it (knative.modelService.backends.*.embedded): all of a model's services have to be alike" .id) }}{{ end -}}
    {{- if and (not .simulated) (not (hasKey $inside .id)) -}}
      {{- $_ := set . "weights" (dict "url" (printf "http://127.0.0.1:%v/v1" $.Values.modelService.port)) -}}
    {{- else if (.weights | default dict).source -}}
      {{- $_ := set . "weights" (dict "path" (get $inside .id)) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $catalogue -}}
{{- end -}}

{{/* What a worker goes by as long as its revision lives, as JSON: its service, its model and the cascades as they were when
     it was rolled out. The ConfigMap is everyone's and always the newest; an old revision that keeps serving, because the
     new one is broken, must not start with the new one's arguments. Takes catalogue and slug. */}}
{{- define "knative.pinned" -}}
{{- $pinned := dict "cascades" (.catalogue.cascades | default dict) -}}
{{- range .catalogue.services -}}
  {{- if eq .slug $.slug }}{{ $_ := set $pinned "service" (include "pickspin.readAtStart" . | fromJson) }}{{ end -}}
{{- end -}}
{{- range .catalogue.models -}}
  {{- if eq .id $pinned.service.model }}{{ $_ := set $pinned "model" . }}{{ end -}}
{{- end -}}
{{- toJson $pinned -}}
{{- end -}}

{{/* Seconds between the end's announcement and SIGKILL. Knative has one limit for all; a Deployment takes what it needs. */}}
{{- define "knative.grace" -}}
{{- $limit := .root.Values.modelService.timeoutSeconds | int -}}
{{- if eq .service.workload "knative" -}}{{ $limit }}{{- else -}}{{ max $limit (add .service.timeout 30) }}{{- end -}}
{{- end -}}

{{/* How long a start may take before it is called failed, in seconds: what is given, and at least the service's own limit
     with room for a node and an image. */}}
{{- define "knative.progress" -}}
{{- $given := .root.Values.modelService.progressDeadline -}}
{{- $unit := get (dict "s" 1 "m" 60 "h" 3600) (regexFind "[smh]$" $given) -}}
{{- max (mul (regexFind "^[0-9]+" $given | int) $unit) (add .service.startTimeout 300) -}}
{{- end -}}

{{/* Seconds of the grace in which the worker drains: Knative holds SIGTERM back for 30, and leaving takes up to 15. */}}
{{- define "knative.drain" -}}
{{- sub (include "knative.grace" . | int) (ternary 45 15 (eq .service.workload "knative")) -}}
{{- end -}}

{{/* The longest a call may take, in seconds, so that a pod that is told to go can still finish it: the model server gives
     up 15 s before the worker does. Takes root, service and given (the catalogue's own timeout_s, or nothing). */}}
{{- define "knative.callTimeout" -}}
{{- $most := sub (include "knative.drain" . | int) 15 -}}
{{- if and (not (kindIs "invalid" .given)) (gt (int .given) (int $most)) -}}
{{- fail (printf "catalogue: service %s has timeout_s %v, but a pod of a Knative Service has %d s left to finish a call (knative.modelService.timeoutSeconds %v less 30 s before SIGTERM and 30 s to leave): lower it, raise both that and max-revision-timeout-seconds, or take workload: deployment" .service.slug .given (int $most) .root.Values.modelService.timeoutSeconds) -}}
{{- end -}}
{{- min .service.timeout $most -}}
{{- end -}}

{{/* Arguments of the model server as a JSON array: the backend's own, those for several devices, those for embeddings, and
     the catalogue's `backend.args`, which replace what has the same name; false takes an argument away. Takes backend,
     service, gpus and sleeps. The same as functions/backends/server_arguments.py makes. */}}
{{- define "knative.arguments" -}}
{{- $given := dict -}}
{{- $dash := ternary "_" "-" (eq .service.kind "trtllm") -}}
{{- range $name, $value := omit (.service.args | default dict) "model" -}}
  {{- $_ := set $given (printf "--%s" (trimPrefix "--" $name | replace "_" $dash)) $value -}}
{{- end -}}
{{- $base := .backend.args | default list -}}
{{- if gt (int .gpus) 1 }}{{ $base = concat $base (.backend.parallelArgs | default list) }}{{ end -}}
{{- if has "embeddings" .service.capabilities }}{{ $base = concat $base (.backend.embeddingArgs | default list) }}{{ end -}}
{{- if .sleeps }}{{ $base = concat $base .backend.sleepArgs }}{{ end -}}
{{- $arguments := list -}}
{{- $skip := false -}}
{{- range $base -}}
  {{- $word := . | toString -}}
  {{- if hasKey $given $word -}}
    {{- $skip = true -}}
  {{- else if or (hasPrefix "--" $word) (not $skip) -}}
    {{- $skip = false -}}
    {{- $arguments = append $arguments $word -}}
  {{- end -}}
{{- end -}}
{{- range $name, $value := $given -}}
  {{- if kindIs "bool" $value -}}
    {{- if $value }}{{ $arguments = append $arguments $name }}{{ end -}}
  {{- else -}}
    {{- $arguments = concat $arguments (list $name ($value | toString)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $arguments -}}
{{- end -}}

{{/* A pod of a service: the worker has the port and the probes, the model server has neither, so that one template serves
     a Knative Service (one port in all) and a Deployment. Takes root, service and catalogue. */}}
{{- define "knative.modelPod" -}}
{{- $root := .root -}}
{{- $service := .service -}}
{{- $models := $root.Values.modelService -}}
{{- $backend := include "knative.backend" . | fromJson -}}
{{- $gpu := include "knative.gpu" . | fromJson -}}
{{- $drain := include "knative.drain" . | int -}}
{{- $served := not (or $service.url $backend.embedded) -}}
{{- $selector := merge (deepCopy ($backend.nodeSelector | default dict)) (deepCopy ($gpu.nodeSelector | default dict)) $models.nodeSelector -}}
{{- $tolerations := concat $models.tolerations ($gpu.tolerations | default list) ($backend.tolerations | default list) -}}
{{- $sleeps := and (gt (int $models.sleep.level) 0) (not (empty $backend.sleepArgs)) -}}
{{- $shared := eq ($gpu.sharing | default "") "mps" -}}
serviceAccountName: {{ $root.Release.Name }}
# A service named pickspin-ingress would appear as PICKSPIN_INGRESS_PORT: an unknown setting, or a wrong one.
enableServiceLinks: false
{{- include "pickspin.pullSecrets" $root }}
{{- with $gpu.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $selector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: worker
    {{- if $root.Values.worker.image }}
    image: {{ $root.Values.worker.image | quote }}
    imagePullPolicy: {{ $root.Values.global.image.pullPolicy }}
    {{- else }}
    {{ include "pickspin.image" $root | nindent 4 | trim }}
    {{- end }}
    # The pod's name is the replica's; a Knative Service may not read it from the downward API.
    {{- if and (eq $service.workload "knative") (eq $root.Values.global.bridge "pickspin") }}
    # With its revision it joins its group only when the controller has named that revision, and leaves when superseded.
    command: [sh, -c, 'PICKSPIN_WORKER_REPLICA="$HOSTNAME" PICKSPIN_WORKER_REVISION="$K_REVISION" exec pickspin worker']
    {{- else }}
    command: [sh, -c, 'PICKSPIN_WORKER_REPLICA="$HOSTNAME" exec pickspin worker']
    {{- end }}
    securityContext:
      {{- include "pickspin.restricted" $root | nindent 6 }}
    env:
      {{- include "pickspin.environment" $root | nindent 6 }}
      {{- /* What a worker reads and no more: a model must not be loaded anew because a door got another limit. */}}
      {{- include "pickspin.settings" (dict "root" $root "only" "^PICKSPIN_(BROKER_|WORKER_|LOG_LEVEL$|INGRESS_(REPLY_TOPICS)$)") | indent 6 }}
      - {name: PICKSPIN_WORKER_SERVICE, value: {{ $service.slug }}}
      # Kubernetes would replace $(NAME) in it.
      - {name: PICKSPIN_WORKER_PINNED, value: {{ include "knative.pinned" (dict "catalogue" .catalogue "slug" $service.slug) | replace "$(" "$$(" | quote }}}
      - {name: PICKSPIN_WORKER_HOST, value: 0.0.0.0}
      - {name: PICKSPIN_WORKER_PORT, value: "8080"}
      - {name: PICKSPIN_WORKER_DRAIN_S, value: {{ $drain | quote }}}
      {{- if $served }}
      # The model server starts beside it: a connection that is refused is one that comes too early.
      - {name: PICKSPIN_WORKER_UNREACHABLE_S, value: "0"}
      {{- end }}
      {{- if $sleeps }}
      - {name: PICKSPIN_WORKER_SLEEP_LEVEL, value: {{ $models.sleep.level | quote }}}
      - {name: PICKSPIN_WORKER_SLEEP_AFTER_S, value: {{ $models.sleep.afterSeconds | quote }}}
      {{- end }}
      {{- with $service.keyEnv }}
      # The key of a server that others run: the catalogue names the variable, the secret holds the value.
      - name: {{ . }}
        valueFrom: {secretKeyRef: {name: {{ $root.Values.global.modelKeysSecret }}, key: {{ . }}}}
      {{- end }}
      - {name: HOME, value: /tmp}
    ports:
      - containerPort: 8080
    # No startup probe: the kubelet's come on a clock of their own, up to a second after the container is seen running,
    # while the first look at readiness comes at once. The worker itself gives up a start that takes too long, and says
    # that it is live while it loads. Held until it is so, for less than the second that a probe has.
    readinessProbe:
      httpGet: {path: /readyz/wait, port: 8080}
      periodSeconds: 1
      failureThreshold: 15
    livenessProbe:
      httpGet: {path: /healthz, port: 8080}
      periodSeconds: 10
      # A worker that starts on a node short of processors is slow, not dead.
      timeoutSeconds: 5
      failureThreshold: 6
    volumeMounts:
      {{- include "pickspin.mounts" $root | nindent 6 }}
      {{- if $backend.embedded }}
      {{- include "knative.modelMounts" (dict "root" $root "service" $service) | nindent 6 }}
      {{- end }}
    resources:
      {{- toYaml (ternary $backend.resources $root.Values.worker.resources (not (not $backend.embedded))) | nindent 6 }}
  {{- if $served }}
  - name: model
    image: {{ $backend.image | quote }}
    imagePullPolicy: {{ $root.Values.global.image.pullPolicy }}
    {{- with $backend.command }}
    command: {{ toJson . }}
    {{- end }}
    args: {{ include "knative.arguments" (dict "backend" $backend "service" $service "gpus" $gpu.count "sleeps" $sleeps) }}
    securityContext:
      {{- include "pickspin.restricted" $root | nindent 6 }}
    env:
      - {name: MODEL_ID, value: {{ $service.model | quote }}}
      - {name: MODEL_PATH, value: {{ $service.path | quote }}}
      - {name: MODEL_PORT, value: {{ $models.port | quote }}}
      - {name: MODEL_CONTEXT, value: {{ $service.context | quote }}}
      - {name: MODEL_CONCURRENCY, value: {{ $service.concurrency | quote }}}
      # Where all requests share one context, each is to have a whole one.
      - {name: MODEL_CONTEXT_IN_ALL, value: {{ mul $service.context $service.concurrency | quote }}}
      - {name: MODEL_GPUS, value: {{ $gpu.count | int | quote }}}
      # How long it may finish calls after SIGTERM: less than the worker waits for them.
      - {name: MODEL_SHUTDOWN_S, value: {{ sub $drain 15 | quote }}}
      - {name: HF_HUB_OFFLINE, value: "1"}
      - {name: HOME, value: /tmp}
      {{- if $sleeps }}
      {{- range $name, $value := $backend.sleepEnv }}
      - {name: {{ $name }}, value: {{ $value | quote }}}
      {{- end }}
      {{- end }}
      {{- range $name, $value := $backend.env }}
      - {name: {{ $name }}, value: {{ $value | quote }}}
      {{- end }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- if not $shared }}
      - {name: shm, mountPath: /dev/shm}
      {{- end }}
      {{- include "knative.modelMounts" (dict "root" $root "service" $service) | nindent 6 }}
    {{- $resources := deepCopy $backend.resources }}
    {{- if $gpu.count }}
    {{- $_ := set $resources "limits" (merge (dict $gpu.resource ($gpu.count | int)) ($resources.limits | default dict)) }}
    {{- end }}
    resources:
      {{- toYaml $resources | nindent 6 }}
  {{- end }}
volumes:
  {{- include "pickspin.volumes" $root | nindent 2 }}
  {{- if and $served (not $shared) }}
  - {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ $backend.shmSize | default $models.shmSize }}}}
  {{- end }}
  {{- if and (not $service.url) (or $service.claim $root.Values.global.modelsClaim) }}
  - {name: models, persistentVolumeClaim: {claimName: {{ $service.claim | default $root.Values.global.modelsClaim }}, readOnly: true}}
  {{- end }}
{{- end -}}

{{- define "knative.modelMounts" -}}
{{- if or .service.claim .root.Values.global.modelsClaim -}}
- {name: models, mountPath: /models, readOnly: true}
{{- end -}}
{{- end -}}
