{{- define "agent-mesh.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "agent-mesh.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* Labels of what the selectors never change for: root, component. */}}
{{- define "agent-mesh.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "agent-mesh.labels" -}}
{{ include "agent-mesh.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: agent-mesh
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Non-root, nothing writable, no capability: of every container. */}}
{{- define "agent-mesh.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "agent-mesh.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* Where the secrets lie in a pod. */}}
{{- define "agent-mesh.volumes" -}}
- name: secrets
  secret:
    secretName: {{ printf "%s-%s" .root.Values.secrets.prefix .component }}
    # Read by the group that the pod runs as.
    defaultMode: 0440
- name: tmp
  emptyDir: {sizeLimit: 256Mi}
{{- end -}}

{{- define "agent-mesh.mounts" -}}
- {name: secrets, mountPath: /run/mesh, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Environment of whoever speaks to NATS and, with `database`, to PostgreSQL. */}}
{{- define "agent-mesh.env" -}}
- {name: MESH_NATS_URL_FILE, value: /run/mesh/nats-url}
- {name: MESH_NATS_REPLICAS, value: {{ .root.Values.nats.replicas | quote }}}
{{- with .root.Values.nats.monitorUrl }}
- {name: MESH_NATS_MONITOR_URL, value: {{ . | quote }}}
{{- end }}
{{- if .root.Values.nats.allowLazySync }}
- {name: MESH_ALLOW_LAZY_SYNC, value: "1"}
{{- end }}
{{- if .database }}
- {name: MESH_DATABASE_URL_FILE, value: /run/mesh/database-url}
{{- end }}
{{- include "agent-mesh.commonEnv" .root }}
{{- end -}}

{{- define "agent-mesh.commonEnv" }}
- {name: MESH_REQUIRE_CREDENTIALS, value: "1"}
- {name: MESH_LOG_FORMAT, value: json}
- {name: MESH_OPS_PORT, value: "9000"}
{{- with .Values.otlpEndpoint }}
- {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "agent-mesh.placing" -}}
automountServiceAccountToken: false
serviceAccountName: {{ include "agent-mesh.fullname" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "agent-mesh.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{/* Names that the gateway answers to. */}}
{{- define "agent-mesh.hosts" -}}
{{- $name := include "agent-mesh.fullname" . -}}
{{- $own := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) -}}
{{- $hosts := concat $own .Values.gateway.allowedHosts -}}
{{- if .Values.gateway.ingress.enabled -}}
{{- $hosts = append $hosts .Values.gateway.ingress.host -}}
{{- end -}}
{{- join "," (uniq $hosts) -}}
{{- end -}}
