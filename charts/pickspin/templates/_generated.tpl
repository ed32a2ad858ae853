{{/* Written by `make schemas` (charts/generate.py): do not edit. */}}

{{/* Topics and consumer groups (events/names.py). */}}
{{- define "pickspin.wireNames" -}}
{
  "topics": {
    "requests": {
      "name": "{prefix}infer.requests",
      "retention_s": 259200
    },
    "progress": {
      "name": "{prefix}infer.progress",
      "retention_s": 86400
    },
    "replies": {
      "name": "{prefix}infer.replies",
      "retention_s": 3600
    },
    "responses": {
      "name": "{prefix}infer.responses",
      "retention_s": 604800
    },
    "status": {
      "name": "{prefix}infer.status",
      "compacted": true
    },
    "control": {
      "name": "{prefix}infer.control",
      "retention_s": 86400
    },
    "dlq": {
      "name": "{prefix}infer.dlq",
      "retention_s": 1209600
    }
  },
  "serviceTopics": [
    {
      "name": "{prefix}infer.model.{slug}",
      "retention_s": 259200
    },
    {
      "name": "{prefix}infer.model.{slug}.batch",
      "retention_s": 259200
    }
  ],
  "groups": {
    "router": "{prefix}infer-router",
    "recorder": "{prefix}infer-recorder",
    "callbacks": "{prefix}infer-callbacks"
  },
  "serviceGroup": "{prefix}infer-model-{slug}",
  "topicStart": "{prefix}infer.",
  "groupStart": "{prefix}infer-"
}
{{- end -}}

{{/* Fields of a catalogue's entries that are not given (router_model/catalogue/model.py). */}}
{{- define "pickspin.catalogueDefaults" -}}
{
  "Model": {
    "tier": "L1",
    "capabilities": [
      "chat",
      "completions"
    ],
    "context_length": 2048,
    "max_tokens": 1024
  },
  "Service": {
    "concurrency": 4,
    "gpu": "none",
    "cold_start_s": 5.0,
    "tokens_per_s": 50.0,
    "ttft_s": 0.2,
    "prefill_tokens_per_s": 2000.0,
    "max_replicas": 1,
    "cooldown_s": 30.0,
    "idle_s": 300.0,
    "queue_mark_s": 120.0,
    "timeout_s": 600.0,
    "start_timeout_s": 120.0,
    "workload": "knative",
    "partitions": 12,
    "enabled": true
  }
}
{{- end -}}

{{/* Fields of a service for which no pod starts anew (router_model/catalogue/merge.py). */}}
{{- define "pickspin.onlyScales" -}}
[
  "cold_start_s",
  "cooldown_s",
  "idle_s",
  "max_replicas",
  "min_warm",
  "partitions",
  "prefill_tokens_per_s",
  "price_per_hour_usd",
  "queue_mark_s",
  "tokens_per_s",
  "ttft_s",
  "warm_by_habit",
  "warm_hours"
]
{{- end -}}

{{/* Slugs no service may have (router_model/catalogue/model.py). */}}
{{- define "pickspin.reservedSlugs" -}}
[
  "_scaler",
  "auto",
  "batch",
  "retry"
]
{{- end -}}
