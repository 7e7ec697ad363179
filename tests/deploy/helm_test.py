"""The Helm chart with the real helm: for each option the rendered objects match the schemas of the Kubernetes API,
wrong values are refused with a message that names them, and the container's commands run with the rights of the
container.

No cluster runs here. The test does not show that the API server admits the objects, that a kubelet starts the pod,
or that a runtime's seccomp and AppArmor profiles allow its work.
"""

import base64
import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import tarfile
import urllib.error
import urllib.request

import yaml

import support
from kubernetes_tools import Tools, run
from support import check

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CHART = os.path.join(TOP, "deploy/helm/cow-exporter")
MANIFESTS = os.path.join(TOP, "deploy/kubernetes")
RULES = os.path.join(TOP, "deploy/prometheus/rules")
DASHBOARDS = os.path.join(TOP, "deploy/grafana")
KUBERNETES = "1.32.0"
CAPABILITIES = {
    "full": ["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"],
    "without-ptrace": ["SYS_ADMIN", "DAC_READ_SEARCH"],
    "no-frames": ["SYS_PTRACE", "DAC_READ_SEARCH"],
}
# bcrypt of "secret" with the lowest cost
PASSWORD = "$2b$04$W5/CJ/0y1ov2VZW26ctQOOYBxWeEGYLYM1PdLY/L8k2a23cTKNdnO"
POD = "12345678-9abc-def0-1234-56789abcdef0"
CONTAINER = "0123456789abcdef" * 4

TLS = {"cert_file": "/etc/cow_exporter/tls/tls.crt", "key_file": "/etc/cow_exporter/tls/tls.key"}
PULL = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
RELABEL = [{"sourceLabels": ["__meta_kubernetes_node_label_zone"], "targetLabel": "zone"}]
MONITOR = {"enabled": True, "namespace": "elsewhere", "labels": {"release": "prometheus"}, "jobName": "cow", "interval": "10s",
           "scrapeTimeout": "10s", "scheme": "https", "tlsConfig": {"insecureSkipVerify": True},
           "basicAuth": {"username": {"name": "cow", "key": "user"}, "password": {"name": "cow", "key": "password"}},
           "proxyUrl": "http://proxy.example:3128", "sampleLimit": 50000, "relabelings": RELABEL,
           "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "cow_scan_.*", "action": "drop"}]}
EVERYTHING = {
    "image": {"registry": "registry.example", "repository": "team/cow", "tag": "v1", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "commonLabels": {"team": "memory"},
    "netlink": True,
    "securityContext": {"seLinuxOptions": {"type": "spc_t"}},
    "podSecurityContext": {"fsGroup": 0},
    "config": {"scan": {"interval": "30s", "max_cpu": 0.05, "full_every": "1h", "threads": 2},
               "limits": {"max_groups": 1000, "max_processes": 50000, "label_value_length": 64, "ledger_bytes": "128MiB", "ring_bytes": "4MiB"},
               "collectors": {"sharing": True, "cow": True, "zero_page": True, "thp": True, "faults": True, "delayacct": True,
                              "ksm": True, "writers": {"top": 5, "one_in": 64}, "process": {"top": 5, "by": "private", "hold": "10m"}, "smaps": {"max_rss": "64MiB"}},
               "groups": [{"name": "redis-{{.Matches.port}}", "comm": ["redis-server"],
                           "cmdline": [r":(?P<port>\d+)( |$)"], "exe": ["redis-server"], "user": ["redis", 999], "unit": ["redis.service"], "cgroup": ["kubepods"],
                           "container_id": ["0123456789ab"]}],
               "default_group": "drop"},
    "extraArgs": ["--web.max-requests=10", "--web.disable-exporter-metrics"],
    "extraEnv": [{"name": "TZ", "value": "UTC"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "port": 20066,
    "listenHost": "[::1]",
    "log": {"level": "warn", "format": "json"},
    "webConfig": {"content": {"tls_server_config": TLS,
                              "http_server_config": {"http2": False}, "rate_limit": {"interval": "1s", "burst": 20},
                              "basic_auth_users": {"prometheus": PASSWORD}}, "tlsSecret": "cow-tls"},
    "resources": {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi", "cpu": 1}},
    "livenessProbe": {"initialDelaySeconds": 10},
    "podLabels": {"pod": "label"},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "daemonSetAnnotations": {"of": "set"},
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "cow", "operator": "NotIn", "values": ["off"]}]}]}}},
    "priorityClassName": "system-node-critical",
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
    "serviceAccount": {"name": "cow", "annotations": {"a": "b"}},
    "service": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
    "serviceMonitor": MONITOR,
    "prometheusRule": {"enabled": True, "namespace": "elsewhere", "labels": {"release": "prometheus"},
                       "runbookUrl": "https://runbooks.example/cow/", "nodeSelector": 'job="nodes"'},
    "dashboards": {"enabled": True, "namespace": "elsewhere", "annotations": {"grafana_folder": "Memory"}},
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-map"}},
                     "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n"],
}

# Each option on and off, by name; the second part of a pair is the version of Kubernetes.
MATRIX = {
    "defaults": ({}, KUBERNETES),
    "without-ptrace": ({"access": "without-ptrace"}, KUBERNETES),
    "no-frames": ({"access": "no-frames"}, KUBERNETES),
    "netlink": ({"netlink": True, "config": {"collectors": {"delayacct": True}}}, KUBERNETES),
    "no-frames with netlink": ({"access": "no-frames", "netlink": True}, KUBERNETES),
    "host's network": ({"hostNetwork": True, "listenHost": "127.0.0.1"}, KUBERNETES),
    "host's network, at an address of one family": ({"netlink": True, "listenHost": "[::1]"}, KUBERNETES),
    "all addresses": ({"listenHost": "0.0.0.0"}, KUBERNETES),
    "all addresses of both families": ({"listenHost": "[::]"}, KUBERNETES),
    "without the host's cgroups": ({"hostCgroups": False}, KUBERNETES),
    "AppArmor by an annotation": ({}, "1.29.3"),
    "AppArmor's profile": ({"appArmorProfile": {"type": "Localhost", "localhostProfile": "cow"}}, KUBERNETES),
    "AppArmor's profile by an annotation": ({"appArmorProfile": {"type": "Localhost", "localhostProfile": "cow"}}, "1.25.0"),
    "no word on AppArmor and seccomp": ({"appArmorProfile": None, "seccompProfile": None}, KUBERNETES),
    "securityContext": ({"securityContext": {"readOnlyRootFilesystem": False, "capabilities": {"add": ["ALL"]}}}, KUBERNETES),
    "image by digest": ({"image": {"digest": "sha256:" + "0" * 64}}, KUBERNETES),
    "passwords": ({"webConfig": {"content": {"basic_auth_users": {"prometheus": PASSWORD}}}}, KUBERNETES),
    "certificate": ({"webConfig": {"content": {"tls_server_config": TLS}, "tlsSecret": "tls"}}, KUBERNETES),
    "client's certificate": ({"webConfig": {"content": {"tls_server_config": {
        **TLS, "client_auth_type": "RequireAnyClientCert"}}, "tlsSecret": "tls"}}, KUBERNETES),
    "rate limit": ({"webConfig": {"content": {"rate_limit": {"interval": "1s", "burst": 20}}}}, KUBERNETES),
    "others' Secret and ConfigMap": ({"webConfig": {"existingSecret": "web"}, "existingConfigMap": "cow"}, KUBERNETES),
    "PodMonitor": ({"service": {"enabled": False}, "podMonitor": MONITOR,
                    "prometheusRule": {"enabled": True, "nodeSelector": 'job="nodes"'}}, KUBERNETES),
    "ServiceMonitor": ({"serviceMonitor": {"enabled": True}}, KUBERNETES),
    "scraped as seldom as others": ({"serviceMonitor": {"enabled": True, "interval": ""}}, KUBERNETES),
    "scraped seldom, for windows that are long": ({"serviceMonitor": {"enabled": True, "interval": "1m"}, "prometheusRule": {
        "enabled": True, "recording": False, "alerts": False}}, KUBERNETES),
    "scraped by TLS": ({"webConfig": {"content": {"tls_server_config": TLS}}, "serviceMonitor": {"enabled": True}}, KUBERNETES),
    "scraped by others' TLS": ({"webConfig": {"existingSecret": "web", "tlsSecret": "tls"}, "podMonitor": {"enabled": True}}, KUBERNETES),
    "rules with TLS": ({"webConfig": {"content": {"tls_server_config": TLS}, "tlsSecret": "cow-tls"}, "serviceMonitor": {"enabled": True},
                        "prometheusRule": {"enabled": True}}, KUBERNETES),
    "scraped without TLS": ({"webConfig": {"existingSecret": "web"}, "podMonitor": {"enabled": True, "scheme": "http"}}, KUBERNETES),
    "scraped with passwords": ({"webConfig": {"content": {"basic_auth_users": {"prometheus": PASSWORD}}},
                                "serviceMonitor": {"enabled": True}}, KUBERNETES),
    "NetworkPolicy": ({"networkPolicy": {"enabled": True, "from": [{"namespaceSelector": PULL}]}}, KUBERNETES),
    "NetworkPolicy for all": ({"networkPolicy": {"enabled": True}}, KUBERNETES),
    "rules": ({"prometheusRule": {"enabled": True}}, KUBERNETES),
    "rules of Kubernetes only": ({"prometheusRule": {"enabled": True, "recording": False, "alerts": False}}, KUBERNETES),
    "dashboards": ({"dashboards": {"enabled": True}}, KUBERNETES),
    "no more than the least": ({"serviceAccount": {"create": False}, "service": {"enabled": False}, "resources": None,
                                "tolerations": [], "nodeSelector": None, "updateStrategy": {"type": "OnDelete"}}, KUBERNETES),
    "names": ({"nameOverride": "memory", "fullnameOverride": "n" * 80, "namespaceOverride": "other",
               "dashboards": {"enabled": True}}, KUBERNETES),
    "of a parent chart": ({"global": {"x": 1}, "enabled": True}, KUBERNETES),
    "everything": (EVERYTHING, KUBERNETES),
    "everything, no-frames": ({**EVERYTHING, "access": "no-frames"}, KUBERNETES),
}

# Values that must be refused, and the text that the message must name.
REFUSED = [
    ({"access": "ful"}, "access"),
    ({"acces": "full"}, "acces"),
    ({"netlink": "yes"}, "netlink"),
    ({"port": 70000}, "port"),
    ({"port": "http"}, "port"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"image": {"pullpolicy": "Always"}}, "pullpolicy"),
    ({"config": {"scann": {}}}, "scann"),
    ({"config": {"scan": {"interval": 10}}}, "interval"),
    ({"config": {"scan": {"max_cpu": 2}}}, "max_cpu"),
    ({"config": {"limits": {"ledger_bytes": "256Mi"}}}, "ledger_bytes"),
    ({"config": {"collectors": {"smap": True}}}, "smap"),
    ({"config": {"collectors": {"process": {"by": "size"}}}}, "by"),
    ({"config": {"groups": [{"name": "all"}]}}, "groups"),
    ({"config": {"groups": [{"name": "x", "com": ["x"]}]}}, "com"),
    ({"config": {"collectors": {"delayacct": True}}}, "set netlink to true"),
    ({"extraArgs": ["web.max-requests=1"]}, "extraArgs"),
    ({"log": {"level": "trace"}}, "level"),
    ({"appArmorProfile": {"type": "Localhost"}}, "localhostProfile"),
    ({"appArmorProfile": {"type": "unconfined"}}, "appArmorProfile"),
    ({"resources": {"limits": {"memory": "512MB"}}}, "memory"),
    ({"resources": {"limit": {}}}, "limit"),
    ({"tolerations": {"operator": "Exists"}}, "tolerations"),
    ({"updateStrategy": {"type": "Recreate"}}, "updateStrategy"),
    ({"commonLabels": {"a": 1}}, "commonLabels"),
    ({"webConfig": {"content": {"basic_auth_users": {"prometheus": "secret"}}}}, "basic_auth_users"),
    ({"webConfig": {"content": {"basic_auth_users": {"a": PASSWORD}}, "existingSecret": "web"}}, "exclude one another"),
    ({"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}, "service.enabled"),
    ({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}, "twice"),
    ({"networkPolicy": {"enabled": True}, "hostNetwork": True}, "networkPolicy"),
    ({"serviceMonitor": {"interval": "30"}}, "interval"),
    ({"serviceMonitor": {"jobName": 'cow"'}}, "jobName"),
    ({"serviceMonitor": {"scheme": "ftp"}}, "scheme"),
    ({"webConfig": {"content": {"tls_server_config": TLS}}, "serviceMonitor": {"enabled": True, "scheme": "http"}},
     "serviceMonitor.scheme"),
    ({"webConfig": {"existingSecret": "web"}, "podMonitor": {"enabled": True}}, "podMonitor.scheme"),
    ({"listenHost": "127.0.0.1"}, "hostNetwork"),
    ({"listenHost": "127.1.2.3"}, "hostNetwork"),
    ({"listenHost": "[::1]"}, "hostNetwork"),
    ({"listenHost": "localhost"}, "hostNetwork"),
    ({"listenHost": "::1"}, "listenHost"),
    ({"listenHost": "$(POD_IP)"}, "listenHost"),
    ({"serviceMonitor": {"enabled": True, "interval": ""}, "prometheusRule": {"enabled": True}}, "serviceMonitor.interval"),
    ({"serviceMonitor": {"enabled": True, "interval": "16s"}, "prometheusRule": {"enabled": True}}, "serviceMonitor.interval"),
    ({"serviceMonitor": {"enabled": True, "interval": "1m"}, "prometheusRule": {"enabled": True}}, "serviceMonitor.interval"),
    ({"podMonitor": {"enabled": True, "interval": "10s6000ms"}, "prometheusRule": {"enabled": True}}, "podMonitor.interval"),
]


class Chart:
    def __init__(self, context, tools):
        self.context = context
        self.tools = tools
        self.numbers = itertools.count()

    def _values(self, values):
        path = self.context.path(f"values{next(self.numbers)}.yaml")
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump(values, file)
        return path

    def template(self, values, kubernetes=KUBERNETES, path=CHART):
        """Returns helm's result as a finished process."""
        return run([self.tools.helm, "template", "cow", path, "--namespace", "monitoring", "--kube-version", kubernetes,
                    "--values", self._values(values)])

    def render(self, values, kubernetes=KUBERNETES, path=CHART):
        rendered = self.template(values, kubernetes, path)
        check(rendered.returncode == 0, f"{values}: {rendered.stderr}")
        return [document for document in yaml.load_all(rendered.stdout, yaml.CSafeLoader) if document]

    def lint(self, values):
        linted = run([self.tools.helm, "lint", "--strict", CHART, "--values", self._values(values)])
        check(linted.returncode == 0, f"helm lint: {linted.stdout}{linted.stderr}")


def one(objects, kind):
    found = [instance for instance in objects if instance["kind"] == kind]
    check(len(found) == 1, f"{len(found)} objects of kind {kind}")
    return found[0]


def labels_of(instance):
    return instance["metadata"].get("labels", {})


def pod_of(objects):
    return one(objects, "DaemonSet")["spec"]["template"]["spec"]


def container_of(objects):
    return pod_of(objects)["containers"][0]


# ---------------------------------------------------------------------------------------------------------------------------------
# The rendered objects


def check_schemas(tools, cases):
    distinct = {}
    names = {}
    for case, objects in cases.items():
        for instance in objects:
            text = json.dumps(instance, sort_keys=True)
            if text not in distinct:
                distinct[text] = instance
                names[text] = f"{case}: {instance['kind']} {instance['metadata']['name']}"
    named = {names[text]: instance for text, instance in distinct.items()}
    check(len(named) == len(distinct), "two objects of one case have the same name")
    # Mutations that must be found, in the same run: they expose a validator that accepts everything.
    wrong = mutations(cases)
    errors = tools.type_errors({**named, **{name: instance for name, (instance, _) in wrong.items()}})
    errors += tools.schema_errors({**named, **{name: instance for name, (instance, _) in wrong.items()}})
    ours = [error for error in errors if not error.startswith("wrong: ")]
    check(not ours, "against the API: " + "\n".join(ours))
    for name, (_, word) in wrong.items():
        check(any(error.startswith(name + ": ") and word in error for error in errors), f"{name} was not found: {errors}")
    print(f"{len(named)} different objects of {len(cases)} cases hold; {len(wrong)} mutations were found")


def mutations(cases):
    def copy(kind):
        return json.loads(json.dumps(one(cases["everything"], kind)))

    wrong = {}

    def add(name, instance, word):
        wrong["wrong: " + name] = (instance, word)

    instance = copy("DaemonSet")
    instance["spec"]["template"]["spec"]["hostPid"] = instance["spec"]["template"]["spec"].pop("hostPID")
    add("misspelt field of the pod", instance, "hostPid")
    instance = copy("DaemonSet")
    instance["spec"]["template"]["spec"]["containers"][0]["securityContext"]["capabilities"]["ad"] = []
    add("misspelt field of the capabilities", instance, "\"ad\"'")
    instance = copy("DaemonSet")
    instance["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "20066"
    add("a text for a number", instance, "number")
    instance = copy("DaemonSet")
    del instance["spec"]["selector"]
    add("no selector", instance, "selector")
    instance = copy("ServiceMonitor")
    instance["spec"]["endpoints"][0]["relabelling"] = []
    add("misspelt field of the endpoint", instance, "relabelling")
    instance = copy("ServiceMonitor")
    instance["spec"]["endpoints"][0]["scheme"] = "ftp"
    add("no such scheme", instance, "scheme")
    instance = copy("PrometheusRule")
    instance["spec"]["groups"][0]["rules"][0]["annotation"] = {}
    add("misspelt field of a rule", instance, "annotation")
    return wrong


def check_refusals(chart):
    with concurrent.futures.ThreadPoolExecutor(2) as two:
        answers = list(two.map(lambda pair: chart.template(pair[0]), REFUSED))
    for (values, word), refused in zip(REFUSED, answers):
        check(refused.returncode != 0, f"{values} was taken")
        check(re.search(rf"\b{re.escape(word)}\b", refused.stderr), f"{values}: {refused.stderr}")
    print(f"{len(REFUSED)} wrong values are refused by name")


def check_access(cases):
    for case, objects in cases.items():
        values, kubernetes = MATRIX[case]
        pod = pod_of(objects)
        container = pod["containers"][0]
        context = container["securityContext"]
        expected = list(CAPABILITIES[values.get("access", "full")])
        if values.get("netlink"):
            expected.append("NET_ADMIN")
        wanted = {"capabilities": {"drop": ["ALL"], "add": expected}, "runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": True, "privileged": False,
                  "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, **values.get("securityContext", {})}
        check({key: context[key] for key in wanted} == wanted, f"{case}: {context}")
        check(pod["hostPID"] is True and pod["automountServiceAccountToken"] is False, f"{case}: {pod}")
        on_host = bool(values.get("netlink") or values.get("hostNetwork"))
        check(pod.get("hostNetwork", False) == on_host, f"{case}: hostNetwork")
        check(("hostPort" in container["ports"][0]) == on_host, f"{case}: hostPort")
        host_paths = [volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume]
        check(host_paths == ([] if values.get("hostCgroups") is False else ["/sys/fs/cgroup"]), f"{case}: {host_paths}")
        check(all(mount["readOnly"] for mount in container["volumeMounts"] if mount["name"] != "more"), f"{case}: writable")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        check(mounted == {volume["name"] for volume in pod["volumes"]}, f"{case}: {mounted} are mounted")
        by_web_config = "--web.config.file=/etc/cow_exporter/web/web.yml" in container["args"]
        check(("web" in mounted) == by_web_config == ("exec" in container["livenessProbe"]), f"{case}: {container}")
        annotations = one(objects, "DaemonSet")["spec"]["template"]["metadata"]["annotations"]
        by_annotation = annotations.get("container.apparmor.security.beta.kubernetes.io/cow-exporter")
        old = tuple(map(int, kubernetes.split(".")[:2])) < (1, 30)
        check((by_annotation is not None) == old and not (old and "appArmorProfile" in context), f"{case}: AppArmor")
    defaults = container_of(cases["defaults"])
    check(defaults["securityContext"]["appArmorProfile"] == {"type": "Unconfined"}, "AppArmor's default")
    check(defaults["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, "seccomp's default")
    check("cpu" not in defaults["resources"]["limits"] and defaults["resources"]["limits"]["memory"], "the default limits")
    check(pod_of(cases["defaults"])["tolerations"] == [{"operator": "Exists"}], "the default tolerations")
    annotation = "container.apparmor.security.beta.kubernetes.io/cow-exporter"
    for case, value in {"AppArmor by an annotation": "unconfined", "AppArmor's profile by an annotation": "localhost/cow"}.items():
        found = one(cases[case], "DaemonSet")["spec"]["template"]["metadata"]["annotations"][annotation]
        check(found == value, f"{case}: {found}")
    silent = container_of(cases["no word on AppArmor and seccomp"])["securityContext"]
    check("appArmorProfile" not in silent and "seccompProfile" not in silent, f"{silent}")
    everything = container_of(cases["everything"])
    check(everything["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}, "what is put over the securityContext")
    over = container_of(cases["securityContext"])["securityContext"]
    check(over["readOnlyRootFilesystem"] is False and over["capabilities"] == {"add": ["ALL"]}, f"{over}")
    check(everything["image"] == "registry.example/team/cow:v1", everything["image"])
    check(container_of(cases["image by digest"])["image"] == "cow_exporter@sha256:" + "0" * 64, "image by digest")


def check_probes(cases):
    """The kubelet's probes go to the pod's address, or to the listen address, never to the kubelet's own. With a web
    configuration they run the exporter's own client, except for readiness if the kubelet is admitted."""
    hosts = {"defaults": None, "all addresses": None, "all addresses of both families": None, "host's network": "127.0.0.1",
             "host's network, at an address of one family": "::1"}
    for case, host in hosts.items():
        container = container_of(cases[case])
        for kind, path in (("liveness", "/-/healthy"), ("readiness", "/-/ready")):
            asked = container[f"{kind}Probe"]["httpGet"]
            check(asked == {"path": path, "port": "metrics", **({"host": host} if host else {})}, f"{case}: {asked}")
    own = {"command": ["/usr/bin/cow_exporter", "--web.healthcheck", "--web.listen-address=[::1]:20066",
                       "--web.config.file=/etc/cow_exporter/web/web.yml"]}
    for case in ("passwords", "rate limit", "client's certificate", "others' Secret and ConfigMap", "everything"):
        container = container_of(cases[case])
        liveness, readiness = container["livenessProbe"], container["readinessProbe"]
        check("exec" in liveness and liveness["exec"] == readiness.get("exec") and "httpGet" not in readiness, f"{case}: {readiness}")
    check(liveness["exec"] == own and liveness["initialDelaySeconds"] == 10, f"everything: {liveness}")
    readiness = container_of(cases["certificate"])["readinessProbe"]
    check(readiness["httpGet"] == {"path": "/-/ready", "port": "metrics", "scheme": "HTTPS"}, f"with a certificate: {readiness}")
    check("exec" in container_of(cases["certificate"])["livenessProbe"], "liveness with a certificate")


def check_names(cases):
    objects = cases["names"]
    names = [(instance["kind"], instance["metadata"]["name"]) for instance in objects]
    check(len(set(names)) == len(names) and all(name.startswith("n" * 63) for _, name in names), f"names: {names}")
    check(all(len(name) == 63 for kind, name in names if kind != "ConfigMap"), f"names: {names}")
    check({instance["metadata"]["namespace"] for instance in objects} == {"other"}, "the namespace")
    for case, objects in cases.items():
        labels = one(objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
        selectors = [one(objects, "DaemonSet")["spec"]["selector"]["matchLabels"]]
        selectors += [instance["spec"]["selector"] for instance in objects if instance["kind"] == "Service"]
        selectors += [instance["spec"]["podSelector"]["matchLabels"] for instance in objects if instance["kind"] == "NetworkPolicy"]
        monitors = [instance for instance in objects if instance["kind"].endswith("Monitor")]
        for monitor in monitors:
            labels_of_target = labels if monitor["kind"] == "PodMonitor" else one(objects, "Service")["metadata"]["labels"]
            wanted = monitor["spec"]["selector"]["matchLabels"]
            check(wanted.items() <= labels_of_target.items(), f"{case}: {wanted} selects nothing")
            check(monitor["spec"]["namespaceSelector"]["matchNames"] == [one(objects, "DaemonSet")["metadata"]["namespace"]], case)
        for selector in selectors:
            check(selector and selector.items() <= labels.items(), f"{case}: {selector} selects no pod of {labels}")
    relabelings = one(cases["ServiceMonitor"], "ServiceMonitor")["spec"]["endpoints"][0]["relabelings"]
    check({"targetLabel": "job", "replacement": "cow_exporter"} in relabelings, f"{relabelings}")
    check("checksum/config" not in one(cases["others' Secret and ConfigMap"], "DaemonSet")["spec"]["template"]["metadata"]
          ["annotations"], "a checksum of nothing")


def check_checksums(cases):
    def checksum(case, name):
        return one(cases[case], "DaemonSet")["spec"]["template"]["metadata"]["annotations"].get(f"checksum/{name}")

    check(checksum("defaults", "config") == checksum("no-frames", "config"), "the same configuration, another checksum")
    check(checksum("defaults", "config") != checksum("netlink", "config"), "another configuration, the same checksum")
    check(checksum("defaults", "web-config") is None and checksum("passwords", "web-config"), "the web configuration's checksum")


def check_intervals(cases):
    """The interval is set by default, and the shortest window of the default rules holds four scrapes."""
    def interval(case):
        return one(cases[case], "ServiceMonitor")["spec"]["endpoints"][0].get("interval")

    check(interval("scraped as seldom as others") is None, "the empty interval is not Prometheus' own")
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    windows = {int(number) * seconds[unit] for text in expressions_of(one(cases["rules"], "PrometheusRule"))
               for number, unit in re.findall(r"\[(\d+)([smhd])\]", text)}
    check(interval("ServiceMonitor") == "15s" and min(windows) == 4 * 15, f"{interval('ServiceMonitor')}, windows {windows}")


def check_schemes(cases):
    """Prometheus uses TLS if the exporter does."""
    for case, scheme in {"ServiceMonitor": "http", "scraped by TLS": "https", "scraped by others' TLS": "https",
                         "scraped without TLS": "http", "scraped with passwords": "http", "everything": "https"}.items():
        spec = next(instance["spec"] for instance in cases[case] if instance["kind"].endswith("Monitor"))
        found = (spec.get("endpoints") or spec["podMetricsEndpoints"])[0]["scheme"]
        check(found == scheme, f"{case}: {found}")


def check_rules(context, cases):
    """The PrometheusRule has the rules of the files, and promtool accepts them."""
    def groups_of(*names):
        groups = []
        for name in names:
            with open(name, encoding="utf-8") as file:
                groups += yaml.safe_load(file)["groups"]
        return groups

    recording, alerts = (os.path.join(RULES, f"cow_exporter_{kind}.yml") for kind in ("rules", "alerts"))
    kubernetes = os.path.join(CHART, "files/kubernetes_rules.yml")
    check(sorted(os.listdir(RULES)) == ["cow_exporter_alerts.yml", "cow_exporter_rules.yml"], "the chart knows these rules")
    of_joins = os.path.join(TOP, "deploy/prometheus/tests/kubernetes_test.yml")
    for command in (["check", "rules", "--lint=all", "--lint-fatal", kubernetes], ["test", "rules", of_joins]):
        joins = run(["promtool", *command])
        check(joins.returncode == 0, f"{command}: {joins.stdout}{joins.stderr}")
    with open(of_joins, encoding="utf-8") as file:
        tested = {each["expr"].split("{")[0] for case in yaml.safe_load(file)["tests"] for each in case["promql_expr_test"]}
    recorded = {rule["record"] for group in groups_of(kubernetes) for rule in group["rules"]}
    check(recorded == tested, f"recorded and tested differ: {recorded ^ tested}")
    of_files = json.dumps(groups_of(recording, alerts, kubernetes))
    of_chart = one(cases["rules"], "PrometheusRule")["spec"]["groups"]
    node = 'job=\\"node_exporter\\"'
    check(of_files.count(node) >= 1, "no rule asks node_exporter")
    of_files = of_files.replace(node, 'job=\\"node-exporter\\"').replace("/etc/cow_exporter/config.yml", "/etc/cow_exporter/config/config.yml")
    check(json.loads(of_files) == of_chart, "the rules are others than in the files")
    check(one(cases["rules of Kubernetes only"], "PrometheusRule")["spec"]["groups"] == groups_of(kubernetes), "Kubernetes' rules")
    for case in ("rules", "everything"):
        path = context.path("rules.yml")
        with open(path, "w", encoding="utf-8") as file:
            yaml.safe_dump(one(cases[case], "PrometheusRule")["spec"], file)
        checked = run(["promtool", "check", "rules", path])
        check(checked.returncode == 0, f"{case}: {checked.stdout}{checked.stderr}")
    everything = one(cases["everything"], "PrometheusRule")["spec"]["groups"]
    urls = {rule["alert"]: rule["annotations"]["runbook_url"] for group in everything for rule in group["rules"] if "alert" in rule}
    wrong = {alert: url for alert, url in urls.items() if url != f"https://runbooks.example/cow/{alert}.md"}
    check(urls and not wrong, f"runbooks: {wrong}")
    with_tls = json.dumps(one(cases["rules with TLS"], "PrometheusRule"))
    check("https://{{ $labels.instance }}" in with_tls and "http://{{" not in with_tls, "with TLS, runbooks need https")
    check('job="nodes"' in json.dumps(everything).replace('\\"', '"'), "nodeSelector")
    for case in ("everything", "PodMonitor"):
        texts = expressions_of(one(cases[case], "PrometheusRule"))
        check(any('job="cow"' in text for text in texts), f"{case}: no rule selects the monitor's job")
        others = [text for text in texts if 'cow_exporter"' in text or 'node_exporter"' in text]
        check(not others, f"{case}: rules select another job: {others}")


def expressions_of(rules):
    """Returns all queries: expressions, and the queries in annotations."""
    return [text for group in rules["spec"]["groups"] for rule in group["rules"]
            for text in (rule["expr"], *rule.get("annotations", {}).values())]


def check_dashboards(cases):
    files = sorted(name for name in os.listdir(DASHBOARDS) if name.endswith(".json"))
    maps = [instance for instance in cases["dashboards"] if labels_of(instance).get("grafana_dashboard") == "1"]
    data = {}
    for instance in maps:
        data.update(instance["data"])
        check(len(json.dumps(instance)) < 900_000, f"{instance['metadata']['name']} is too large for an object")
    check(sorted(data) == files and files, f"dashboards {sorted(data)}, files {files}")
    for name in files:
        with open(os.path.join(DASHBOARDS, name), encoding="utf-8") as file:
            check(json.load(file) == json.loads(data[name]), f"{name} is another")
    everything = [instance for instance in cases["everything"] if "grafana_dashboard" in labels_of(instance)]
    check({instance["metadata"]["namespace"] for instance in everything} == {"elsewhere"}, "the dashboards' namespace")


def check_package(context, tools):
    """helm follows the links to rules and dashboards: a package has the files."""
    packaged = run([tools.helm, "package", CHART, "--destination", context.path("")])
    check(packaged.returncode == 0, packaged.stderr)
    with tarfile.open(context.path(f"cow-exporter-{chart_file()['version']}.tgz")) as archive:
        check(all(member.isfile() or member.isdir() for member in archive), "the package has links")
        files = {member.name.removeprefix("cow-exporter/"): archive.extractfile(member).read() for member in archive
                 if member.isfile()}
    expected = {f"files/rules/{name}": os.path.join(RULES, name) for name in os.listdir(RULES)}
    expected |= {f"files/dashboards/{name}": os.path.join(DASHBOARDS, name) for name in os.listdir(DASHBOARDS)
                 if name.endswith(".json")}
    for name, source in expected.items():
        with open(source, "rb") as file:
            check(files.get(name) == file.read(), f"{name} is not in the package")
    extra = {name for name in files if name.startswith("files/")} - set(expected) - {"files/kubernetes_rules.yml"}
    check(not extra, f"the package has {extra}")


def check_manifests(tools, chart):
    rendered = run([os.path.join(MANIFESTS, "render"), "--check"], env={**os.environ, "HELM": tools.helm})
    check(rendered.returncode == 0, f"deploy/kubernetes: {rendered.stdout}{rendered.stderr}")
    built = run([tools.kubectl, "kustomize", MANIFESTS])
    check(built.returncode == 0, f"kustomize: {built.stderr}")
    objects = list(yaml.load_all(built.stdout, yaml.CSafeLoader))
    check(objects[0]["kind"] == "Namespace", "the namespace is not first")
    files = sorted(name for name in os.listdir(MANIFESTS) if name.endswith(".yaml") and name != "kustomization.yaml")
    check(len(objects) == len(files), f"{len(objects)} objects of {files}")
    names = {instance["metadata"]["name"] for instance in objects}
    check(names == {"cow-exporter"}, f"{names}")
    same = chart.render({})
    check(container_of(same)["args"] == container_of(objects)["args"], "the manifests run another command")
    return objects


# ---------------------------------------------------------------------------------------------------------------------------------
# The documentation


def chart_file():
    with open(os.path.join(CHART, "Chart.yaml"), encoding="utf-8") as file:
        return yaml.safe_load(file)


def check_documents():
    with open(os.path.join(TOP, "CMakeLists.txt"), encoding="utf-8") as file:
        version = re.search(r"project\(cow_exporter VERSION (\S+)", file.read()).group(1)
    check(chart_file()["appVersion"] == version, f"the chart is of {chart_file()['appVersion']}, this is {version}")

    with open(os.path.join(CHART, "README.md"), encoding="utf-8") as file:
        table = file.read().partition("## Values")[2]
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*?) \|", table, re.MULTILINE))
    with open(os.path.join(CHART, "values.yaml"), encoding="utf-8") as file:
        values = yaml.safe_load(file)
    leaves = {}

    def walk(path, value):
        if path in rows or not isinstance(value, dict) or not value:
            leaves[path] = value
            return
        for key, inner in value.items():
            walk(f"{path}.{key}" if path else key, inner)

    walk("", values)
    missing = set(leaves) - set(rows)
    check(not missing, f"the chart's README does not have {sorted(missing)}")
    unknown = set(rows) - set(leaves)
    check(not unknown, f"the chart's README has {sorted(unknown)}, which are no values")
    for path, cell in rows.items():
        found = re.fullmatch(r"`(.*)`", cell)
        if found:
            check(yaml.safe_load(found.group(1)) == leaves[path], f"the README's default of {path} is {cell}, not {leaves[path]}")
    with open(os.path.join(CHART, "values.schema.json"), encoding="utf-8") as file:
        schema = json.load(file)
    unchecked = set(values) - set(schema["properties"])
    check(not unchecked, f"the schema does not know {unchecked}")


def check_notes(context, chart):
    """Checks helm's notes after an installation. Their query, which is also in the README, finds nodes with other
    names."""
    copy = context.path("chart")
    shutil.copytree(CHART, copy)  # including the targets of links
    # helm prints notes only with a cluster. Render them as an object here.
    with open(os.path.join(copy, "templates/NOTES.txt"), encoding="utf-8") as file:
        text = file.read()
    with open(os.path.join(copy, "templates/notes.yaml"), "w", encoding="utf-8") as file:
        file.write('{{- define "notes" }}' + text + '{{ end }}\nkind: Notes\ntext: {{ include "notes" . | toJson }}\n')

    def notes(values):
        return one(chart.render(values, path=copy), "Notes")["text"]

    quiet = notes({"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True, "recording": False, "alerts": False}})
    check("node_memory" not in quiet, f"notes without rules on nodes: {quiet}")
    query = r"^ *(up\{.*)$"
    with open(os.path.join(CHART, "README.md"), encoding="utf-8") as file:
        documented = re.findall(query, file.read(), re.MULTILINE)
    shown = re.findall(query, notes({"prometheusRule": {"enabled": True}}), re.MULTILINE)
    check(len(shown) == 1 and shown == documented, f"notes: {shown}, README: {documented}")
    renamed = notes({"prometheusRule": {"enabled": True, "nodeSelector": 'job="nodes"'}, "serviceMonitor": {"jobName": "cow"}})
    check(re.findall(query, renamed, re.MULTILINE) == [
        'up{job="cow"} unless on (instance) node_memory_MemAvailable_bytes{job="nodes"}'], renamed)
    series = ['up{job="cow_exporter", instance="n1"}', 'up{job="cow_exporter", instance="n2"}',
              'node_memory_MemAvailable_bytes{job="node-exporter", instance="n1"}',
              'node_memory_MemAvailable_bytes{job="node-exporter", instance="10.0.0.2:9100"}']
    with open(context.path("query_test.yml"), "w", encoding="utf-8") as file:
        yaml.safe_dump({"tests": [{
            "input_series": [{"series": each, "values": "1x2"} for each in series],
            "promql_expr_test": [{"expr": shown[0], "eval_time": "1m", "exp_samples": [{"labels": series[1], "value": 1}]}]}]}, file)
    tested = run(["promtool", "test", "rules", context.path("query_test.yml")])
    check(tested.returncode == 0, f"{shown[0]}: {tested.stdout}{tested.stderr}")


# ---------------------------------------------------------------------------------------------------------------------------------
# The container's commands


def files_of(objects):
    """Returns path and content of the files that the volumes put into the container."""
    pod = pod_of(objects)
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    files = {}
    for volume in pod["volumes"]:
        for kind, key, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if key not in volume:
                continue
            for instance in objects:
                if instance["kind"] == kind and instance["metadata"]["name"] == volume[key][name]:
                    content = instance.get("data") or instance.get("stringData")
                    files |= {os.path.join(mounts[volume["name"]], file): text for file, text in content.items()}
    return files


class Sandbox:
    """A command's prefix that sets up the container's environment: the files of its volumes, a read-only root, a
    cgroup namespace, the user and the capabilities of its securityContext, and no_new_privs. The image's file permits
    these capabilities; here they are ambient instead. The host's processes are visible as with hostPID."""

    SCRIPT = """
set -e
mount -t tmpfs tmpfs /etc
cp -r "$1"/. /
if [ -n "$2" ]; then mount --bind "$2" /sys/fs/cgroup; elif [ -n "$3" ]; then mount -t cgroup2 none /sys/fs/cgroup; fi
mount -o remount,bind,ro /
shift 3
exec "$@"
"""

    def __init__(self, context, objects, name, cgroups):
        tree = context.path(name)
        for path, text in files_of(objects).items():
            target = tree + path
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "w", encoding="utf-8") as file:
                file.write(text)
        container = container_of(objects)
        security = container["securityContext"]
        added = ",".join("+" + name.lower() for name in security["capabilities"]["add"])
        setpriv = ["setpriv", f"--reuid={security['runAsUser']}", f"--regid={security['runAsGroup']}", "--clear-groups",
                   f"--inh-caps=-all,{added}", f"--ambient-caps=-all,{added}", f"--bounding-set=-all,{added}"]
        if security["allowPrivilegeEscalation"] is False:
            setpriv.append("--no-new-privs")
        host = any("hostPath" in volume for volume in pod_of(objects)["volumes"])
        self.args = container["args"]
        self.wrapper = [*cgroups.enter(), "unshare", "--mount", "--cgroup", "sh", "-c", self.SCRIPT, "sh", tree,
                        cgroups.top if host else "", cgroups.top, *setpriv]


class Cgroups:
    """Makes two pods with the names of the cgroupfs driver: the exporter's, and one with a workload. From within the
    exporter's namespace the path of the other lacks kubepods. Returns nothing if cgroups can't be made."""

    def __init__(self, context):
        self.top = ""
        for top in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            if os.path.exists(os.path.join(top, "cgroup.procs")):
                self.top = top
        self.own = self.other = None
        if not self.top:
            print("no version 2 hierarchy: cgroup namespaces are left to the unit tests")
            return
        base = os.path.join(self.top, f"cow_helm_test_{os.getpid()}")
        try:
            for path in ("kubepods/besteffort/podE/e", f"kubepods/burstable/pod{POD}/{CONTAINER}"):
                os.makedirs(os.path.join(base, path))
        except OSError as error:
            print(f"cgroups can't be made, their namespaces are left to the unit tests: {error}")
            self.top = ""
            return
        context.callback(self._remove, base)
        self.own = os.path.join(base, "kubepods/besteffort/podE/e")
        self.other = os.path.join(base, f"kubepods/burstable/pod{POD}/{CONTAINER}")

    @staticmethod
    def _remove(base):
        def gone():
            with contextlib.suppress(OSError):
                for path, _, _ in os.walk(base, topdown=False):
                    os.rmdir(path)
            return not os.path.exists(base)

        support.wait_for(gone, 10, "the end of the cgroups' processes")

    def enter(self):
        if not self.own:
            return []
        return ["sh", "-c", 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"', "sh", self.own]

    def put(self, pid):
        if self.other:
            with open(os.path.join(self.other, "cgroup.procs"), "w", encoding="utf-8") as file:
                file.write(str(pid))


def check_configurations(context, cases):
    """The exporter accepts every rendered configuration and command line."""
    known = run([support.binary("COW_EXPORTER"), "--help"]).stdout
    seen = set()
    for case, objects in cases.items():
        for argument in container_of(objects)["args"]:
            check(re.search(rf"{re.escape(argument.split('=')[0])}\b", known), f"{case}: no flag {argument}")
        for path, text in files_of(objects).items():
            if not path.endswith("/config.yml") or text in seen:
                continue
            seen.add(text)
            with open(context.path("config.yml"), "w", encoding="utf-8") as file:
                file.write(text)
            checked = run([support.binary("COW_EXPORTER"), "--config.check", f"--config.file={context.path('config.yml')}"])
            check(checked.returncode == 0, f"{case}: {checked.stderr}")
    with open(os.path.join(TOP, "config/reference.yml"), encoding="utf-8") as file:
        reference = yaml.safe_load(file)
    return reference


def check_reference(chart, reference):
    """The schema knows each key of the configuration."""
    chart.render({"config": reference})
    print("the reference configuration passes the schema")


def check_tiers(context, chart, cgroups):
    workload = context.start(support.Workload())
    cgroups.put(workload.pid)
    workload.do("name 0 helm_workload")
    workload.do("map 0 a 1000 nohuge")
    workload.do("write 0 a 0 1000")
    number, child = workload.do("fork 0").split()
    cgroups.put(child)
    workload.do(f"write {number} a 0 100")
    group = f"{POD}-helm_workload" if cgroups.other else "helm_workload"
    # Kernels before 6.15 hide page tables without CAP_SYS_PTRACE.
    without_ptrace = "full" if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15) else "none"
    for access, mode in (("full", "full"), ("without-ptrace", without_ptrace), ("no-frames", "no_frames")):
        values = {"access": access, "port": support.free_port(), "listenHost": "127.0.0.1", "hostNetwork": True}
        sandbox = Sandbox(context, chart.render(values), access, cgroups)
        exporter = context.start(support.Exporter(*sandbox.args, wrapper=sandbox.wrapper))
        support.wait_for(lambda exporter=exporter: answer(exporter.url("/-/ready"))[0] == 200, 30, f"{access}: a first pass")
        check(answer(exporter.url("/-/healthy"))[0] == 200, f"{access}: not healthy")
        samples = exporter.scrape()
        modes = {dict(labels)["mode"] for (name, labels) in samples.values
                 if name == "cow_group_mode" and ("group", group) in labels}
        check(modes == {mode}, f"{access}: {group} is in mode {modes}, not {mode}: {''.join(exporter.log)}")
        exposure = samples.get("cow_exposure_bytes", group=group)
        shared = samples.get("cow_shared_bytes", group=group)
        check((exposure is not None) == (mode == "full"), f"{access}: exposure is {exposure}")
        check(mode == "none" or shared >= 2 * 900 * os.sysconf("SC_PAGESIZE"), f"{access}: {shared} bytes are shared")
        if cgroups.other:
            names = [dict(labels) for (name, labels) in samples.values
                     if name == "cow_group_info" and ("group", group) in labels]
            check(names and names[0]["pod_uid"] == POD and names[0]["container_id"] == CONTAINER, f"{access}: {names}")
        exporter.end()
        print(f"{access}: {group} is in mode {mode}, exposure {exposure}")
    if cgroups.other:
        # Without the host's hierarchy the pod still has its uid, but the rule on kubepods can't match.
        sandbox = Sandbox(context, chart.render({"hostCgroups": False}), "own", cgroups)
        once = run([*sandbox.wrapper, support.binary("COW_EXPORTER"), *sandbox.args, "--once"])
        check(once.returncode == 0, once.stderr)
        check(f'cow_group_info{{group="helm_workload",unit="",container_id="{CONTAINER}",pod_uid="{POD}"' in once.stdout,
              "without the host's cgroups")


def answer(url, headers=None):
    """Returns status and body; accepts any certificate, like the kubelet."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10, context=anyone) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Kubelet:
    """Runs the probes of a container in the host's network."""

    def __init__(self, sandbox, container):
        self.sandbox = sandbox
        self.container = container

    def _finds(self, kind, seconds):
        probe = self.container[f"{kind}Probe"]
        if "exec" in probe:
            program, *arguments = probe["exec"]["command"]
            check(program == "/usr/bin/cow_exporter", f"{program} is not where the image has it")
            try:
                return run([*self.sandbox.wrapper, support.binary("COW_EXPORTER"), *arguments], timeout=seconds).returncode == 0
            except subprocess.TimeoutExpired:
                return False
        asked = probe["httpGet"]
        port = self.container["ports"][0]["containerPort"]
        return answer(f"{asked.get('scheme', 'HTTP').lower()}://{asked['host']}:{port}{asked['path']}")[0] == 200

    def finds_alive(self, seconds=10):
        return self._finds("liveness", seconds)

    def finds_ready(self):
        return self._finds("readiness", 10)


def check_web(context, chart, cgroups):
    """The Secret works, and probes reach an exporter that uses it, but not one that hangs."""
    users = {"basic_auth_users": {"prometheus": PASSWORD}}
    credentials = base64.b64encode(b"prometheus:secret").decode()
    for name, web, open_to_kubelet in (
            ("passwords", users, False), ("certificate", {"tls_server_config": TLS}, True),
            ("client's certificate", {"tls_server_config": {**TLS, "client_auth_type": "RequireAnyClientCert"}}, False)):
        values = {"port": support.free_port(), "listenHost": "127.0.0.1", "hostNetwork": True,
                  "webConfig": {"content": web, "tlsSecret": "tls"}}
        objects = chart.render(values)
        sandbox = Sandbox(context, objects, name, cgroups)
        directory = context.path(f"{name}/etc/cow_exporter/tls")
        os.makedirs(directory)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                        "2", "-subj", "/CN=cow", "-keyout", "tls.key", "-out", "tls.crt"], cwd=directory, capture_output=True,
                       check=True)
        container = container_of(objects)
        check("exec" in container["livenessProbe"] and ("httpGet" in container["readinessProbe"]) == open_to_kubelet,
              f"{name}: {container['readinessProbe']}")
        kubelet = Kubelet(sandbox, container)
        check(not kubelet.finds_alive(), f"{name}: alive before it is started")
        exporter = context.start(support.Exporter(*sandbox.args, wrapper=sandbox.wrapper))
        check(kubelet.finds_alive(), f"{name}: not alive")
        support.wait_for(kubelet.finds_ready, 30, f"{name}: the pod's readiness")
        if web is users:
            check(answer(exporter.url("/-/ready"))[0] == 401, "asked without the password")
            support.wait_for(lambda: answer(exporter.url("/-/ready"), {"Authorization": f"Basic {credentials}"})[0] == 200, 30,
                             "the answer with the password")
        exporter.send_signal(signal.SIGSTOP)
        # The reader has stopped; the front notices that it hears nothing from it.
        support.wait_for(lambda: not kubelet.finds_alive(1), 30, f"{name}: the end of its life while it hangs")
        exporter.send_signal(signal.SIGCONT)
        exporter.end()
    print("probes hold with passwords, a certificate and a client's")


def test(context):
    support.need("promtool", "node", "openssl", "setpriv", "unshare")
    check_documents()
    tools = Tools()
    print(run([tools.helm, "version", "--short"]).stdout.strip())
    chart = Chart(context, tools)
    chart.lint({})
    chart.lint(EVERYTHING)
    with concurrent.futures.ThreadPoolExecutor(2) as two:
        cases = dict(zip(MATRIX, two.map(lambda values: chart.render(*values), MATRIX.values())))
    cases["manifests"] = check_manifests(tools, chart)
    check_schemas(tools, cases)
    del cases["manifests"]
    check_access(cases)
    check_probes(cases)
    check_names(cases)
    check_checksums(cases)
    check_intervals(cases)
    check_schemes(cases)
    check_rules(context, cases)
    check_dashboards(cases)
    check_package(context, tools)
    check_notes(context, chart)
    check_refusals(chart)
    check_reference(chart, check_configurations(context, cases))
    # The pod's commands run with its capabilities.
    support.need_privileges("page frames of other processes", "mounts of its own")
    cgroups = Cgroups(context)
    check_tiers(context, chart, cgroups)
    check_web(context, chart, cgroups)


support.main(test)
