{{/*
What is shipped as files, as objects: the documents of a file as {items: [...]}.
Arguments: root, path.
*/}}
{{- define "meta-cni.objects" -}}
{{- $items := list -}}
{{- range $text := regexSplit "(?m)^---\\s*$" (.root.Files.Get .path) -1 -}}
  {{- $object := fromYaml $text -}}
  {{- if $object.Error -}}{{- fail (printf "%s: %s" $.path $object.Error) -}}{{- end -}}
  {{- if $object.kind -}}{{- $items = append $items $object -}}{{- end -}}
{{- end -}}
{{- if not $items -}}{{- fail (printf "%s: no object is in it" .path) -}}{{- end -}}
{{- dict "items" $items | toYaml -}}
{{- end -}}

{{- define "meta-cni.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Sets an environment variable of a container; an empty value leaves what is shipped. Changes the container in place.
Arguments: container, name, value.
*/}}
{{- define "meta-cni.env" -}}
{{- $name := .name -}}{{- $value := .value -}}{{- $found := false -}}
{{- range .container.env -}}
  {{- if eq .name $name -}}{{- $found = true -}}{{- $_ := set . "value" $value -}}{{- end -}}
{{- end -}}
{{- if and $value (not $found) -}}
  {{- $_ := set .container "env" (append (default list .container.env) (dict "name" $name "value" $value)) -}}
{{- end -}}
{{- end -}}

{{/*
What every pod has of the values. Changes the pod's spec in place.
Arguments: root, spec, values.
*/}}
{{- define "meta-cni.pod" -}}
{{- $root := .root -}}{{- $values := .values -}}{{- $spec := .spec -}}
{{- range $container := concat (default list $spec.initContainers) $spec.containers -}}
  {{- $_ := set $container "image" (include "meta-cni.image" $root) -}}
  {{- with $root.Values.image.pullPolicy -}}{{- $_ := set $container "imagePullPolicy" . -}}{{- end -}}
  {{- $_ := set $container "resources" $values.resources -}}
{{- end -}}
{{- with $root.Values.image.pullSecrets -}}{{- $_ := set $spec "imagePullSecrets" . -}}{{- end -}}
{{- $_ := set $spec "priorityClassName" $values.priorityClassName -}}
{{- $_ := set $spec "tolerations" $values.tolerations -}}
{{- with $values.nodeSelector -}}{{- $_ := set $spec "nodeSelector" . -}}{{- end -}}
{{- end -}}

{{/*
Puts the node's directories into place: the agent writes paths that the plugin reads on the host, so they are the same inside. Changes the
pod's spec in place.
Arguments: root, spec.
*/}}
{{- define "meta-cni.directories" -}}
{{- $cni := .root.Values.cni -}}
{{- $kubelet := .root.Values.kubeletDir -}}
{{- $devices := dict "pod-resources" (printf "%s/pod-resources" $kubelet) "device-plugins" (printf "%s/device-plugins" $kubelet) -}}
{{- $paths := merge (dict "bin" $cni.binDir "conf" $cni.confDir) $devices -}}
{{- range $volume := .spec.volumes -}}
  {{- with get $paths $volume.name -}}{{- $_ := set $volume.hostPath "path" . -}}{{- end -}}
{{- end -}}
{{- range $container := concat (default list .spec.initContainers) .spec.containers -}}
  {{- range $mount := $container.volumeMounts -}}
    {{- with get $paths $mount.name -}}{{- $_ := set $mount "mountPath" . -}}{{- end -}}
  {{- end -}}
  {{- if ne $cni.binDir "/opt/cni/bin" -}}
    {{- include "meta-cni.env" (dict "container" $container "name" "META_CNI_BIN_DIR" "value" $cni.binDir) -}}
  {{- end -}}
  {{- if ne $cni.confDir "/etc/cni/net.d" -}}
    {{- include "meta-cni.env" (dict "container" $container "name" "META_CNI_CONF_DIR" "value" $cni.confDir) -}}
  {{- end -}}
  {{- if ne $cni.confFile "00-meta-cni.conflist" -}}
    {{- include "meta-cni.env" (dict "container" $container "name" "META_CNI_CONF_FILE" "value" $cni.confFile) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
