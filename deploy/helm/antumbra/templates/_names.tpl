{{/* Names and labels. */}}

{{/* Pods, Services and volumes are called after it, and 63 characters are what a name may have. */}}
{{- define "antumbra.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc 31 | trimSuffix "-") .Chart.Name -}}
{{- end -}}
{{- end -}}

{{- define "antumbra.headless" -}}
{{ include "antumbra.fullname" . }}-headless
{{- end -}}

{{/* What never changes in the life of an object. */}}
{{- define "antumbra.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "antumbra.labels" -}}
{{ include "antumbra.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "antumbra.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ printf "%s@%s" $image.repository $image.digest }}
{{- else -}}
{{ printf "%s:%s" $image.repository ($image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{/* Which pods the doors are at: the gateways when there are any. */}}
{{- define "antumbra.doorComponent" -}}
{{ .Values.gateway.enabled | ternary "gateway" "storage" }}
{{- end -}}

{{/* Of a door, `api`, `http` or `mqtt`: whether it speaks TLS. Empty for no. */}}
{{- define "antumbra.tls" -}}
{{- $door := index .root.Values.tls .door -}}
{{- if and $door.enabled (not .root.Values.insecure) -}}yes{{- end -}}
{{- end -}}

{{/* Whether MQTT without TLS is reached from outside of the pod. Empty for no. */}}
{{- define "antumbra.plainMqtt" -}}
{{- if or .Values.tls.mqtt.plain (not (include "antumbra.tls" (dict "root" . "door" "mqtt"))) -}}yes{{- end -}}
{{- end -}}
