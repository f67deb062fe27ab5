{{/* Name of the chart, for labels. */}}
{{- define "keyferry.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the objects: release and chart, or the release alone where it names the chart already. */}}
{{- define "keyferry.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $both := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $both | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "keyferry.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "keyferry.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "keyferry.fullname" .) "default") }}
{{- end }}

{{- define "keyferry.selectorLabels" -}}
app.kubernetes.io/name: {{ include "keyferry.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Labels of every object. Merged, not listed, so that no label stands there twice: the selector's win, then the user's. */}}
{{- define "keyferry.labels" -}}
{{- $own := dict
      "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
      "app.kubernetes.io/version" .Chart.AppVersion
      "app.kubernetes.io/managed-by" .Release.Service }}
{{- merge (include "keyferry.selectorLabels" . | fromYaml) (.Values.commonLabels | default dict) $own | toYaml }}
{{- end }}

{{/* The same with further ones, which win over the common ones. Takes (list $ labels…). */}}
{{- define "keyferry.labelsWith" -}}
{{- $root := first . }}
{{- $labels := include "keyferry.selectorLabels" $root | fromYaml }}
{{- range rest . }}
{{- $labels = merge $labels (. | default dict) }}
{{- end }}
{{- merge $labels (include "keyferry.labels" $root | fromYaml) | toYaml }}
{{- end }}

{{- define "keyferry.image" -}}
{{- $repository := .Values.global.repository | default .Values.image.repository }}
{{- if hasSuffix "external-secrets/external-secrets" $repository }}
{{- fail (printf "%s %q is External Secrets Operator's image; set it to keyferry's" (empty .Values.global.repository | ternary "image.repository" "global.repository") $repository) }}
{{- end }}
{{- with .Values.image.digest }}
{{- printf "%s@%s" $repository . }}
{{- else }}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* The namespaces to serve, separated by commas; empty: all. */}}
{{- define "keyferry.namespaces" -}}
{{- concat (.Values.scopedNamespaces | default list) (list .Values.scopedNamespace) | compact | uniq | join "," }}
{{- if and .Values.scopedRBAC (not .Values.scopedNamespace) (not .Values.scopedNamespaces) }}
{{- fail "scopedRBAC needs a namespace: set scopedNamespaces" }}
{{- end }}
{{- end }}

{{/* Not empty where ClusterSecretStores are served. */}}
{{- define "keyferry.clusterStores" -}}
{{- if and .Values.processClusterStore (not (include "keyferry.namespaces" .)) }}true{{ end }}
{{- end }}

{{/* Not empty where ClusterExternalSecrets are served. */}}
{{- define "keyferry.clusterExternalSecrets" -}}
{{- if and .Values.processClusterExternalSecret (not (include "keyferry.namespaces" .)) }}true{{ end }}
{{- end }}

{{/* Not empty where ClusterPushSecrets are served: not without PushSecrets, as in ESO's chart. */}}
{{- define "keyferry.clusterPushSecrets" -}}
{{- if and .Values.processClusterPushSecret .Values.processPushSecret (not (include "keyferry.namespaces" .)) }}true{{ end }}
{{- end }}

{{/* Not empty where a leader is elected: always with more than one Pod, or two would write. The flag in extraArgs is heard before leaderElect. */}}
{{- define "keyferry.leaderElect" -}}
{{- $wanted := .Values.leaderElect }}
{{- $extra := .Values.extraArgs | default dict }}
{{- if hasKey $extra "enable-leader-election" }}
{{- $wanted = not (has (get $extra "enable-leader-election" | toString) (list "0" "f" "F" "false" "FALSE" "False")) }}
{{- end }}
{{- if or $wanted (gt (int .Values.replicaCount) 1) }}true{{ end }}
{{- end }}

{{/* Name of the Lease: the operator's default is ESO's. */}}
{{- define "keyferry.leaseName" -}}
{{- get (.Values.extraArgs | default dict) "leader-election-id" | default .Values.leaderElectionID | default "external-secrets-controller" }}
{{- end }}

{{- define "keyferry.leaseNamespace" -}}
{{- get (.Values.extraArgs | default dict) "leader-election-namespace" | default (include "keyferry.namespace" .) }}
{{- end }}

{{/* Port of an address: that of the flag in extraArgs, or else the given one. Empty: the flag says "0", which is none. Takes (list $ flag port). */}}
{{- define "keyferry.port" -}}
{{- $extra := (index . 0).Values.extraArgs | default dict }}
{{- $address := get $extra (index . 1) | toString }}
{{- if has $address (list "" "<nil>") }}
{{- index . 2 }}
{{- else if ne $address "0" }}
{{- splitList ":" $address | last }}
{{- end }}
{{- end }}

{{/* Port of metrics; empty: none. */}}
{{- define "keyferry.metricsPort" -}}
{{- include "keyferry.port" (list . "metrics-addr" .Values.metrics.listen.port) }}
{{- end }}

{{/* Port of health; empty: none. Without a flag, a number in the liveness probe, where ESO's values have it, or else ours. */}}
{{- define "keyferry.livePort" -}}
{{- $probe := .Values.livenessProbe.spec }}
{{- $ports := list }}
{{- range list (get ($probe.httpGet | default dict) "port") $probe.port .Values.live.listen.port }}
{{- if regexMatch "^[0-9]+$" (toString .) }}
{{- $ports = append $ports . }}
{{- end }}
{{- end }}
{{- include "keyferry.port" (list . "live-addr" (first $ports)) }}
{{- end }}

{{/* A probe, without what only ESO's values have. Of a probe of health, the port is where extraArgs put that. */}}
{{- define "keyferry.probe" -}}
{{- $probe := deepCopy (omit (index . 1) "address" "port") }}
{{- if and (get ((index . 0).Values.extraArgs | default dict) "live-addr") $probe.httpGet }}
{{- $_ := set $probe.httpGet "port" "live" }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{/* The container's arguments. One map, so that extraArgs replace what the chart sets; but for the one that rights and strategy go by. */}}
{{- define "keyferry.args" -}}
{{- $extra := omit (.Values.extraArgs | default dict) "enable-leader-election" }}
{{- $args := dict
      "metrics-addr" (printf ":%d" (int .Values.metrics.listen.port))
      "live-addr" (printf ":%s" (include "keyferry.livePort" .))
      "loglevel" .Values.log.level }}
{{- if include "keyferry.leaderElect" . }}
{{- $_ := set $args "enable-leader-election" true }}
{{- $_ := set $args "leader-election-id" .Values.leaderElectionID }}
{{- $_ := set $args "leader-election-lease-duration" .Values.leaderElectionLeaseDuration }}
{{- $_ := set $args "leader-election-renew-deadline" .Values.leaderElectionRenewDeadline }}
{{- $_ := set $args "leader-election-retry-period" .Values.leaderElectionRetryPeriod }}
{{- end }}
{{- $_ := set $args "log-format" .Values.log.format }}
{{- $_ := set $args "zap-time-encoding" .Values.log.timeEncoding }}
{{- $_ := set $args "controller-class" .Values.controllerClass }}
{{- $_ := set $args "concurrent" (.Values.concurrent | default "" | toString) }}
{{- $_ := set $args "store-requeue-interval" .Values.storeRequeueInterval }}
{{- $_ := set $args "namespaces" (include "keyferry.namespaces" .) }}
{{- if not .Values.processClusterStore }}
{{- $_ := set $args "enable-cluster-store-reconciler" "false" }}
{{- end }}
{{- if not .Values.processSecretStore }}
{{- $_ := set $args "enable-secret-store-reconciler" "false" }}
{{- end }}
{{- if not (include "keyferry.clusterExternalSecrets" .) }}
{{- $_ := set $args "enable-cluster-external-secret-reconciler" "false" }}
{{- end }}
{{- if not .Values.processPushSecret }}
{{- $_ := set $args "enable-push-secret-reconciler" "false" }}
{{- end }}
{{- if not (include "keyferry.clusterPushSecrets" .) }}
{{- $_ := set $args "enable-cluster-push-secret-reconciler" "false" }}
{{- end }}
{{- if .Values.genericTargets.enabled }}
{{- $_ := set $args "unsafe-allow-generic-targets" "true" }}
{{- end }}
{{- range $name, $value := $args }}
{{- if and (ne (toString $value) "") (not (hasKey $extra $name)) }}
- {{ printf "--%s=%v" $name $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := $extra }}
{{- if or (kindIs "invalid" $value) (eq (toString $value) "") }}
- {{ printf "--%s" $name | quote }}
{{- else if kindIs "float64" $value }}
- {{ printf "--%s=%s" $name (toJson $value) | quote }}
{{- else }}
- {{ printf "--%s=%v" $name $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* Not empty on OpenShift. */}}
{{- define "keyferry.openshift" -}}
{{- if .Capabilities.APIVersions.Has "security.openshift.io/v1" }}true{{ end }}
{{- end }}

{{/* A security context without the chart's own switch, and without ids where OpenShift gives them out. Takes (list $ context). */}}
{{- define "keyferry.securityContext" -}}
{{- $root := index . 0 }}
{{- $context := omit (index . 1) "enabled" }}
{{- $adapt := $root.Values.global.compatibility.openshift.adaptSecurityContext }}
{{- if or (eq $adapt "force") (and (eq $adapt "auto") (include "keyferry.openshift" $root)) }}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- toYaml $context }}
{{- end }}
