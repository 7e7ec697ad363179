{{- define "cow-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "cow-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "cow-exporter.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "cow-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "cow-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "cow-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "cow-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "cow-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: metrics
app.kubernetes.io/part-of: cow-exporter
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "cow-exporter.image" -}}
{{- $image := .Values.image -}}
{{- if $image.registry }}{{ $image.registry }}/{{ end }}{{ $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default .Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{- define "cow-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "cow-exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "cow-exporter.configMapName" -}}
{{- default (include "cow-exporter.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{- define "cow-exporter.webConfigSecret" -}}
{{- if .Values.webConfig.existingSecret -}}
{{- .Values.webConfig.existingSecret -}}
{{- else if .Values.webConfig.content -}}
{{- include "cow-exporter.fullname" . }}-web
{{- end -}}
{{- end -}}

{{- /* What the rules select: the job of the monitor that is there. */ -}}
{{- define "cow-exporter.jobName" -}}
{{- ternary .Values.podMonitor.jobName .Values.serviceMonitor.jobName .Values.podMonitor.enabled -}}
{{- end -}}

{{- /* Whether a duration of Prometheus, 15s or 1m30s, is said and 15 s at most. */ -}}
{{- define "cow-exporter.isFast" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000 "y" 31536000000 -}}
{{- $milliseconds := 0 -}}
{{- range $part := regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $milliseconds = add $milliseconds (mul (regexFind "[0-9]+" $part | atoi) (get $units (regexFind "[a-z]+" $part))) -}}
{{- end -}}
{{- if and (gt $milliseconds 0) (le $milliseconds 15000) }}true{{ end -}}
{{- end -}}

{{- define "cow-exporter.hostNetwork" -}}
{{- if or .Values.hostNetwork .Values.netlink }}true{{ end -}}
{{- end -}}

{{- /* The image's own user. Its program's file permits these capabilities; containerd and CRI-O let it have them in spite of
no_new_privs, which allowPrivilegeEscalation: false sets. The API takes that beside SYS_ADMIN as long as it is not written
CAP_SYS_ADMIN. */ -}}
{{- define "cow-exporter.securityContext" -}}
{{- $capabilities := list "DAC_READ_SEARCH" -}}
{{- if ne .Values.access "without-ptrace" }}{{ $capabilities = prepend $capabilities "SYS_PTRACE" }}{{ end -}}
{{- if ne .Values.access "no-frames" }}{{ $capabilities = prepend $capabilities "SYS_ADMIN" }}{{ end -}}
{{- if .Values.netlink }}{{ $capabilities = append $capabilities "NET_ADMIN" }}{{ end -}}
{{- $context := dict
  "runAsUser" 65532
  "runAsGroup" 65532
  "runAsNonRoot" true
  "privileged" false
  "allowPrivilegeEscalation" false
  "readOnlyRootFilesystem" true
  "capabilities" (dict "drop" (list "ALL") "add" $capabilities)
-}}
{{- if .Values.seccompProfile }}{{ $context = set $context "seccompProfile" .Values.seccompProfile }}{{ end -}}
{{- if and .Values.appArmorProfile (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) -}}
{{- $context = set $context "appArmorProfile" .Values.appArmorProfile -}}
{{- end -}}
{{- range $key, $value := .Values.securityContext }}{{ $context = set $context $key $value }}{{ end -}}
{{- toYaml $context -}}
{{- end -}}

{{- /* The value of the annotation that securityContext.appArmorProfile replaced. */ -}}
{{- define "cow-exporter.appArmorAnnotation" -}}
{{- with .Values.appArmorProfile -}}
{{- if semverCompare "<1.30-0" $.Capabilities.KubeVersion.Version -}}
{{- if eq .type "Unconfined" }}unconfined{{ else if eq .type "Localhost" }}localhost/{{ .localhostProfile }}{{ else }}runtime/default{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Where the kubelet asks: at the pod's address, which is not said, unless the exporter listens on another one only. */ -}}
{{- define "cow-exporter.probedHost" -}}
{{- if not (regexMatch `^(0\.0\.0\.0|\[(0*:)+0*\])?$` .Values.listenHost) }}{{ .Values.listenHost | trimAll "[]" }}{{ end -}}
{{- end -}}

{{- /* With (dict "root" $ "monitor" .Values.serviceMonitor "name" "serviceMonitor") */ -}}
{{- define "cow-exporter.scheme" -}}
{{- $web := .root.Values.webConfig -}}
{{- $tls := or ($web.content).tls_server_config (and $web.existingSecret $web.tlsSecret) -}}
{{- if .monitor.scheme -}}
{{- if and ($web.content).tls_server_config (eq .monitor.scheme "http") -}}
{{- fail (printf "webConfig.content has TLS, so nothing answers to http: leave %s.scheme empty" .name) -}}
{{- end -}}
{{- .monitor.scheme -}}
{{- else if and $web.existingSecret (not $tls) -}}
{{- fail (printf "what is in webConfig.existingSecret is not known here: set %s.scheme to http or https" .name) -}}
{{- else -}}
{{- ternary "https" "http" (not (empty $tls)) -}}
{{- end -}}
{{- end -}}

{{- /* The kubelet takes any certificate, but has no password and none of its own, and no share of a limit on requests. What is in
a Secret of others is not known. */ -}}
{{- define "cow-exporter.refusesKubelet" -}}
{{- $web := default dict .Values.webConfig.content -}}
{{- $auth := default "" (($web.tls_server_config).client_auth_type) -}}
{{- if or .Values.webConfig.existingSecret $web.basic_auth_users $web.rate_limit (hasPrefix "Require" $auth) }}true{{ end -}}
{{- end -}}

{{- /* With (dict "root" $ "path" "/-/healthy" "exec" "" "timing" .Values.livenessProbe); exec: the exporter's own client asks. */ -}}
{{- define "cow-exporter.probe" -}}
{{- if .exec -}}
exec:
  command:
    - /usr/bin/cow_exporter
    - --web.healthcheck
    - --web.listen-address={{ .root.Values.listenHost }}:{{ .root.Values.port }}
    - --web.config.file=/etc/cow_exporter/web/web.yml
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
{{- if ((.root.Values.webConfig).content).tls_server_config }}
  scheme: HTTPS
{{- end }}
{{- with include "cow-exporter.probedHost" .root }}
  host: {{ . | quote }}
{{- end }}
{{- end }}
{{ toYaml .timing }}
{{- end -}}
