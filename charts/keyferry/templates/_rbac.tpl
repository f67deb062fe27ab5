{{/* What the operator does in a namespace that it serves. */}}
{{- define "keyferry.namespaceRules" -}}
# The Secrets it writes (by server-side apply, so never `update`), and those that stores log in with.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Certificate authorities, and the ServiceAccounts that stores log in with.
- apiGroups: [""]
  resources: [configmaps, serviceaccounts]
  verbs: [get, list, watch]
{{- if .Values.rbac.serviceAccountTokenCreate }}
- apiGroups: [""]
  resources: [serviceaccounts/token]
  verbs: [create]
{{- end }}
- apiGroups: [external-secrets.io]
  resources: [externalsecrets, secretstores]
  verbs: [get, list, watch]
# `patch` of the object itself only for finalizers: those that ESO left{{ if .Values.processPushSecret }}, and those that PushSecrets need on stores{{ end }}.
- apiGroups: [external-secrets.io]
  resources: [externalsecrets{{ if .Values.processPushSecret }}, secretstores{{ end }}]
  verbs: [patch]
- apiGroups: [external-secrets.io]
  resources:
    - externalsecrets/status
    {{- if .Values.processSecretStore }}
    - secretstores/status
    {{- end }}
  verbs: [patch]
{{- if .Values.processPushSecret }}
# `patch` of the object itself, and of the stores above, for the finalizers that hold them while something pushed must be deleted.
- apiGroups: [external-secrets.io]
  resources: [pushsecrets]
  verbs: [get, list, watch, patch]
- apiGroups: [external-secrets.io]
  resources: [pushsecrets/status]
  verbs: [patch]
{{- end }}
{{- if .Values.openshiftFinalizers }}
# Asked for by OwnerReferencesPermissionEnforcement where an owner reference blocks the owner's deletion.
- apiGroups: [external-secrets.io]
  resources: [externalsecrets/finalizers]
  verbs: [update]
{{- end }}
{{ include "keyferry.generatorRules" . }}
{{- if .Values.genericTargets.enabled }}
{{- /* ConfigMaps always, as in ESO's chart. */}}
{{- range prepend (.Values.genericTargets.resources | default list) (dict "resources" (list "configmaps")) }}
# A kind of generic targets: read, watched by metadata, and written by server-side apply.
- apiGroups: [{{ .apiGroup | default "" | quote }}]
  resources: {{ toJson .resources }}
  verbs: {{ toJson (concat (.verbs | default list) (list "get" "list" "watch" "create" "patch" "delete") | uniq) }}
{{- end }}
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{/* What kinds need that are not of one namespace: ClusterSecretStores, and what has children in many namespaces. */}}
{{- define "keyferry.clusterRules" -}}
{{- $es := include "keyferry.clusterExternalSecrets" . }}
{{- $ps := include "keyferry.clusterPushSecrets" . }}
{{- if include "keyferry.clusterStores" . }}
{{ include "keyferry.clusterStoreRules" . }}
{{- end }}
{{- if $es }}
# `patch` of the object itself, and of namespaces, only to take off the finalizers that ESO left.
- apiGroups: [external-secrets.io]
  resources: [clusterexternalsecrets]
  verbs: [get, list, watch, patch]
- apiGroups: [external-secrets.io]
  resources: [clusterexternalsecrets/status]
  verbs: [patch]
- apiGroups: [external-secrets.io]
  resources: [externalsecrets]
  verbs: [create, delete]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [patch]
{{- if .Values.openshiftFinalizers }}
- apiGroups: [external-secrets.io]
  resources: [clusterexternalsecrets/finalizers]
  verbs: [update]
{{- end }}
{{- end }}
{{- if $ps }}
- apiGroups: [external-secrets.io]
  resources: [clusterpushsecrets]
  verbs: [get, list, watch]
- apiGroups: [external-secrets.io]
  resources: [clusterpushsecrets/status]
  verbs: [patch]
- apiGroups: [external-secrets.io]
  resources: [pushsecrets]
  verbs: [get, list, watch, create, patch, delete]
{{- if .Values.openshiftFinalizers }}
- apiGroups: [external-secrets.io]
  resources: [clusterpushsecrets/finalizers]
  verbs: [update]
{{- end }}
{{- end }}
{{- if or (include "keyferry.clusterStores" .) $es $ps }}
# Conditions of ClusterSecretStores, and those who select namespaces, look at their labels.
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, list, watch]
{{- end }}
{{- end }}

{{/* What ClusterSecretStores need besides. */}}
{{- define "keyferry.clusterStoreRules" -}}
- apiGroups: [external-secrets.io]
  resources: [clustersecretstores]
  verbs: [get, list, watch{{ if .Values.processPushSecret }}, patch{{ end }}]
- apiGroups: [external-secrets.io]
  resources: [clustersecretstores/status]
  verbs: [patch]
{{- end }}

{{/* roleRef and subjects of a binding. Takes (list $ kind name). */}}
{{- define "keyferry.bind" -}}
{{- $root := index . 0 -}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ index . 1 }}
  name: {{ index . 2 }}
subjects:
  - kind: ServiceAccount
    name: {{ include "keyferry.serviceAccountName" $root | quote }}
    namespace: {{ include "keyferry.namespace" $root | quote }}
{{- end }}

{{/* What leader election needs, where the Lease is. `create` cannot be limited by name. */}}
{{- define "keyferry.leaseRules" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "keyferry.leaseName" . | quote }}]
  verbs: [get, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
{{- end }}
