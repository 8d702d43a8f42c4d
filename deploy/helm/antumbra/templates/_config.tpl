{{/* The file antumbra.toml. What differs between pods is in their environment. */}}

{{/* A value as TOML: numbers come as floating point and would lose their form. */}}
{{- define "antumbra.literal" -}}
{{- if kindIs "string" . -}}
{{ . | quote }}
{{- else if kindIs "bool" . -}}
{{ . }}
{{- else -}}
{{ . | int64 }}
{{- end -}}
{{- end -}}

{{/* A size such as 6GiB (of the node) or 8Gi (of Kubernetes) in bytes; nothing if it is written in another way. */}}
{{- define "antumbra.bytes" -}}
{{- $size := toString . | trimSuffix "B" -}}
{{- if regexMatch "^[0-9]+Mi$" $size -}}
{{ mul (trimSuffix "Mi" $size | int64) 1048576 }}
{{- else if regexMatch "^[0-9]+Gi$" $size -}}
{{ mul (trimSuffix "Gi" $size | int64) 1073741824 }}
{{- end -}}
{{- end -}}

{{/* The first three nodes, however many there are: with scaling this list must not change. */}}
{{- define "antumbra.seeds" -}}
{{- $root := . -}}
{{- $seeds := list -}}
{{- range until 3 -}}
{{- $node := printf "%s-%d" (include "antumbra.fullname" $root) . -}}
{{- $seeds = append $seeds (printf "%s=%s.%s.%s.svc:7401" $node $node (include "antumbra.headless" $root) $root.Release.Namespace) -}}
{{- end -}}
{{ join "," $seeds }}
{{- end -}}

{{/* What the chart sets, by section. */}}
{{- define "antumbra.ownConfig" -}}
{{- $root := . -}}
node:
  data_dir: /var/lib/antumbra/data
cluster:
  seeds: {{ include "antumbra.seeds" . | quote }}
peer:
  listen: "{{ .Values.listenAddress }}:7401"
  {{- if not .Values.insecure }}
  tls_authority: /etc/antumbra/peer/ca.pem
  {{- end }}
{{- range $door, $port := dict "api" 7400 "http" 7480 }}
{{ $door }}:
  listen: "{{ $root.Values.listenAddress }}:{{ $port }}"
  {{- include "antumbra.doorFiles" (dict "root" $root "door" $door) | nindent 2 }}
{{- end }}
mqtt:
  {{- if include "antumbra.plainMqtt" . }}
  listen: "{{ .Values.listenAddress }}:1883"
  {{- else }}
  listen: "127.0.0.1:1883"
  {{- end }}
  {{- if include "antumbra.tls" (dict "root" . "door" "mqtt") }}
  tls_listen: "{{ .Values.listenAddress }}:8883"
  {{- end }}
  {{- include "antumbra.doorFiles" (dict "root" . "door" "mqtt") | nindent 2 }}
access:
  {{- if .Values.access.bootstrapTokenSecretName }}
  bootstrap_token_file: /etc/antumbra/bootstrap/token
  {{- end }}
  {{- if .Values.access.jwtKeysSecretName }}
  jwt_keys_file: /etc/antumbra/jwt/jwks.json
  {{- end }}
{{- end -}}

{{- define "antumbra.doorFiles" -}}
{{- if include "antumbra.tls" . -}}
tls_certificate: /etc/antumbra/{{ .door }}/tls.crt
tls_key: /etc/antumbra/{{ .door }}/tls.key
{{- if (index .root.Values.tls .door).clientAuthoritySecretName }}
tls_client_authority: /etc/antumbra/{{ .door }}-clients/ca.crt
{{- end }}
{{- end -}}
{{- end -}}

{{- define "antumbra.toml" -}}
{{- $own := include "antumbra.ownConfig" . | fromYaml -}}
{{- $given := deepCopy .Values.config -}}
{{- $tables := list -}}
{{- range $section := list "node" "storage" "raft" "cluster" "peer" "api" "http" "access" "mqtt" "telemetry" "limits" -}}
{{- $options := merge (dict) (index $own $section | default dict) (index $given $section | default dict) -}}
{{- if $options -}}
{{- $lines := list (printf "[%s]" $section) -}}
{{- range $option := keys $options | sortAlpha -}}
{{- $lines = append $lines (printf "%s = %s" $option (include "antumbra.literal" (index $options $option))) -}}
{{- end -}}
{{- $tables = append $tables (join "\n" $lines) -}}
{{- end -}}
{{- end -}}
{{ join "\n\n" $tables }}
{{- end -}}
