{{/* What the pods of storage nodes and gateways have in common. */}}

{{- define "antumbra.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "antumbra.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A change of the file starts the pods anew, one after another. */}}
{{- define "antumbra.podAnnotations" -}}
checksum/config: {{ include "antumbra.toml" . | sha256sum }}
{{- with .Values.podAnnotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "antumbra.command" -}}
command: [/usr/local/bin/antumbra]
args:
  - serve
  - --config=/etc/antumbra/config/antumbra.toml
  {{- if .Values.insecure }}
  - --insecure
  {{- end }}
{{- end -}}

{{- define "antumbra.ports" -}}
- name: grpc
  containerPort: 7400
- name: peer
  containerPort: 7401
- name: http
  containerPort: 7480
{{- if include "antumbra.tls" (dict "root" . "door" "mqtt") }}
- name: mqtts
  containerPort: 8883
{{- end }}
{{- if include "antumbra.plainMqtt" . }}
- name: mqtt
  containerPort: 1883
{{- end }}
{{- end -}}

{{- define "antumbra.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
  {{- if include "antumbra.tls" (dict "root" .root "door" "http") }}
  scheme: HTTPS
  {{- end }}
{{- end -}}

{{- define "antumbra.probes" -}}
startupProbe:
  {{- include "antumbra.probe" (dict "root" . "path" "/startupz") | nindent 2 }}
  periodSeconds: 10
  failureThreshold: 180
livenessProbe:
  {{- include "antumbra.probe" (dict "root" . "path" "/livez") | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  {{- include "antumbra.probe" (dict "root" . "path" "/readyz") | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Where a node finds its own name, and what it is called by others. */}}
{{- define "antumbra.nodeEnvironment" -}}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: ANTUMBRA_NODE_NAME
  value: $(POD_NAME)
{{- with .root.Values.placement.zoneLabel }}
- name: ANTUMBRA_NODE_ZONE
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['{{ . }}']
{{- end }}
{{- if not .root.Values.insecure }}
- name: ANTUMBRA_PEER_TLS_CERTIFICATE
  value: /etc/antumbra/peer/{{ .certificate }}.pem
- name: ANTUMBRA_PEER_TLS_KEY
  value: /etc/antumbra/peer/{{ .certificate }}.key
{{- end }}
{{- end -}}

{{- define "antumbra.mounts" -}}
- name: config
  mountPath: /etc/antumbra/config
  readOnly: true
{{- if not .Values.insecure }}
- name: peer
  mountPath: /etc/antumbra/peer
  readOnly: true
{{- end }}
{{- range $secret := include "antumbra.secrets" . | fromYamlArray }}
- name: {{ $secret.name }}
  mountPath: /etc/antumbra/{{ $secret.name }}
  readOnly: true
{{- end }}
{{- end -}}

{{- define "antumbra.volumes" -}}
- name: config
  configMap:
    name: {{ include "antumbra.fullname" . }}
{{- range $secret := include "antumbra.secrets" . | fromYamlArray }}
- name: {{ $secret.name }}
  secret:
    secretName: {{ $secret.secretName }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The Secrets beside those of the peer link: what they are mounted as, and their names. */}}
{{- define "antumbra.secrets" -}}
{{- $root := . -}}
{{- $found := list -}}
{{- range $door := list "api" "http" "mqtt" -}}
{{- if include "antumbra.tls" (dict "root" $root "door" $door) -}}
{{- $tls := index $root.Values.tls $door -}}
{{- $name := $tls.secretName | default (printf "%s-doors" (include "antumbra.fullname" $root)) -}}
{{- $found = append $found (dict "name" $door "secretName" $name) -}}
{{- with $tls.clientAuthoritySecretName -}}
{{- $found = append $found (dict "name" (printf "%s-clients" $door) "secretName" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.access.bootstrapTokenSecretName -}}
{{- $found = append $found (dict "name" "bootstrap" "secretName" .) -}}
{{- end -}}
{{- with .Values.access.jwtKeysSecretName -}}
{{- $found = append $found (dict "name" "jwt" "secretName" .) -}}
{{- end -}}
{{ toYaml $found }}
{{- end -}}

{{/* Certificates between nodes from the CSI driver of cert-manager: one for each pod, for its name. */}}
{{- define "antumbra.peerCsi" -}}
- name: peer
  csi:
    driver: csi.cert-manager.io
    readOnly: true
    volumeAttributes:
      csi.cert-manager.io/issuer-name: {{ required "tls.peer.csi.issuerName is needed with tls.peer.source=csi" .Values.tls.peer.csi.issuerName | quote }}
      csi.cert-manager.io/issuer-kind: {{ .Values.tls.peer.csi.issuerKind | quote }}
      csi.cert-manager.io/common-name: ${POD_NAME}
      csi.cert-manager.io/dns-names: ${POD_NAME}
      csi.cert-manager.io/uri-sans: antumbra://{{ .Values.config.cluster.name }}/node/${POD_NAME}
      csi.cert-manager.io/key-usages: digital signature,server auth,client auth
      csi.cert-manager.io/duration: {{ .Values.tls.peer.csi.duration | quote }}
      csi.cert-manager.io/certificate-file: node.pem
      csi.cert-manager.io/privatekey-file: node.key
      csi.cert-manager.io/ca-file: ca.pem
      csi.cert-manager.io/fs-group: "65532"
{{- end -}}
