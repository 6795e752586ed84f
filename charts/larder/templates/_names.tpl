{{/* The release's name for everything. */}}
{{- define "larder.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "larder.account" -}}
{{- if .Values.serviceAccount.name }}{{ .Values.serviceAccount.name }}{{ else if .Values.serviceAccount.create }}{{ include "larder.name" . }}{{ else }}default{{ end }}
{{- end }}

{{- define "larder.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "larder.selects" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "larder.labels" -}}
{{ include "larder.selects" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Which endpoints each controller works on, as JSON: {"shards": […], "namespaces": […], "everywhere": …}. */}}
{{- define "larder.scopes" -}}
{{- $own := dict "name" "" "selector" .Values.selector "namespaces" .Values.namespaces }}
{{- if and .Values.shards (or .Values.selector .Values.namespaces) }}
{{- fail "selector and namespaces belong to the only controller, and there are shards: write them in each of the shards" }}
{{- end }}
{{- $shards := list }}
{{- $leases := list }}
{{- $namespaces := list }}
{{- $everywhere := false }}
{{- range .Values.shards | default (list $own) }}
{{- $names := .namespaces | default list | uniq | sortAlpha }}
{{- $lease := include "larder.lease" (dict "namespaces" $names "selector" .selector) }}
{{- if has $lease $leases }}
{{- fail (printf "shard %s has the selector and namespaces of another one: they would stand by for each other, not share the work" .name) }}
{{- end }}
{{- $shards = append $shards (merge (dict "namespaces" $names "lease" $lease) (deepCopy .)) }}
{{- $leases = append $leases $lease }}
{{- $namespaces = concat $namespaces $names }}
{{- $everywhere = or $everywhere (empty $names) }}
{{- end }}
{{- dict "shards" $shards "leases" $leases "namespaces" ($namespaces | uniq | sortAlpha) "everywhere" $everywhere | toJson }}
{{- end }}

{{/* The Lease of a scope, named as Scope::lease_name in controller/src/scope.rs names it. */}}
{{- define "larder.lease" -}}
{{- $names := list }}
{{- range .namespaces }}{{ $names = append $names (quote .) }}{{ end }}
{{- $selector := "None" }}
{{- if .selector }}{{ $selector = printf "Some(%s)" (quote .selector) }}{{ end }}
{{- if or $names .selector -}}
larder-controller-{{ printf "{%s} %s" (join ", " $names) $selector | sha256sum | trunc 10 }}
{{- else -}}
larder-controller
{{- end }}
{{- end }}
