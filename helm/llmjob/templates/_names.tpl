{{/* The names and labels that more than one template needs. */}}
{{- define "llmjob.name" -}}
{{- if contains "llmjob" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-llmjob" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "llmjob.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "llmjob.name" .) }}
{{- end }}

{{/* Cluster-wide names carry the namespace: two releases of one name may live in two namespaces. */}}
{{- define "llmjob.clusterName" -}}
{{ printf "%s-%s" .Release.Namespace (include "llmjob.name" .) }}
{{- end }}

{{- define "llmjob.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "llmjob.selector" -}}
app.kubernetes.io/name: llmjob-controller
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "llmjob.labels" -}}
{{ include "llmjob.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
