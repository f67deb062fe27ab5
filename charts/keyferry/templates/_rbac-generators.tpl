{{/* Not empty where ClusterGenerators are served. */}}
{{- define "keyferry.clusterGenerators" -}}
{{- if and .Values.processClusterGenerator (not (include "keyferry.namespaces" .)) }}true{{ end }}
{{- end }}

{{/* The kinds of generators, as items of a list. */}}
{{- define "keyferry.generators" -}}
- acraccesstokens
- beyondtrustworkloadcredentialsdynamicsecrets
- cloudsmithaccesstokens
- ecrauthorizationtokens
- fakes
- gcraccesstokens
- githubaccesstokens
- gitlabdeploytokens
- grafanas
- mfas
- passwords
- quayaccesstokens
- sshkeys
- stssessiontokens
- uuids
- vaultdynamicsecrets
- webhooks
{{- if include "keyferry.clusterGenerators" . }}
- clustergenerators
{{- end }}
{{- end }}

{{/* What generators need: to be read, and to note what they made and must take back. */}}
{{- define "keyferry.generatorRules" -}}
- apiGroups: [generators.external-secrets.io]
  resources:
    {{- include "keyferry.generators" . | nindent 4 }}
  verbs: [get, list, watch]
- apiGroups: [generators.external-secrets.io]
  resources: [generatorstates]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
