{{/* Values that were given and have no effect, one line each: those of ESO's chart with the reason, then unknown names. */}}
{{- define "keyferry.ignored" -}}
{{- $values := .Values | toJson | fromJson }}
{{- $eso := .Files.Get "files/eso-values.yaml" | fromYaml }}
{{- range $path, $why := $eso }}
{{- $at := $values }}
{{- $given := true }}
{{- range $part := splitList "." $path }}
{{- if and $given (kindIs "map" $at) (hasKey $at $part) }}
{{- $at = index $at $part }}
{{- else }}
{{- $given = false }}
{{- end }}
{{- end }}
{{- if $given }}
  {{ $path }}: {{ $why }}
{{- end }}
{{- end }}
{{- $known := .Files.Lines "files/known-values.txt" }}
{{- range $name := keys $values | sortAlpha }}
{{- if not (or (has $name $known) (hasKey $eso $name)) }}
  {{ $name }}: keyferry's chart has no such value
{{- end }}
{{- end }}
{{- end }}
