"""The checks on copies with a fault: each must find it."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from . import admission, chart, documents, program, rules, static
from .tree import REPOSITORY, Tree, binary, temporary

CHART = "deploy/helm/antumbra"
POD = f"{CHART}/templates/_pod.tpl"
CONFIG = f"{CHART}/templates/_config.tpl"
STATEFULSET = f"{CHART}/templates/statefulset.yaml"
GATEWAY = f"{CHART}/templates/gateway.yaml"
SERVICES = f"{CHART}/templates/services.yaml"
NETWORK = f"{CHART}/templates/networkpolicy.yaml"
POLICY = f"{CHART}/templates/admission.yaml"
VALUES = f"{CHART}/values.yaml"
SCHEMA = f"{CHART}/values.schema.json"

# Which check, in which file, what is there, and the fault in its place.
FAULTS = [
    (chart.lints, f"{CHART}/Chart.yaml", "apiVersion: v2", "apiVersion: v9"),
    (chart.lints, POD, "{{- define \"antumbra.probes\" -}}", "{{- define \"antumbra.probe5\" -}}"),
    (chart.fails_to_render, CONFIG, "{{- define \"antumbra.toml\" -}}", "{{- define \"antumbra.tom\" -}}"),
    (chart.is_as_recorded, VALUES, "size: 20Gi", "size: 21Gi"),
    (chart.kubernetes_takes_it, STATEFULSET, "podManagementPolicy", "podManagmentPolicy"),
    (chart.kubernetes_takes_it, SERVICES, "publishNotReadyAddresses: true", "publishNotReadyAddresses: 'yes'"),
    (chart.prometheus_takes_it, f"{CHART}/templates/servicemonitor.yaml", "path: /metrics", "path: 7"),
    (chart.prometheus_takes_it, f"{CHART}/templates/servicemonitor.yaml", "  selector:", "  selectr:"),
    (chart.refuses, SCHEMA, "{\"const\": \"Retain\"}", "{\"type\": \"string\"}"),
    (chart.refuses, "deploy/ci/refused/two-replicas.yaml", "replicas: 2", "replicas: 3"),
    (chart.schema_is_complete, VALUES, "parked: false", "parked: false\nparking: false"),
    (chart.schema_is_complete, SCHEMA, "\"parked\": {", "\"parking\": {"),
    (rules.pods_are_restricted, POD, "drop: [ALL]", "drop: [NET_RAW]"),
    (rules.pods_are_restricted, POD, "runAsUser: 65532", "runAsUser: 0"),
    (rules.pods_are_restricted, GATEWAY, "enableServiceLinks: false", "enableServiceLinks: true"),
    (rules.storage_nodes_are_as_designed, STATEFULSET, "Parallel", "OrderedReady"),
    (rules.storage_nodes_are_as_designed, STATEFULSET, "maxUnavailable: 1", "maxUnavailable: 2"),
    (rules.storage_nodes_are_as_designed, STATEFULSET, "antumbra, prestop", "antumbra, version"),
    (rules.storage_nodes_are_as_designed, POD, "\"path\" \"/livez\"", "\"path\" \"/readyz\""),
    (rules.storage_nodes_are_as_designed, POD, "failureThreshold: 180", "failureThreshold: 18"),
    (rules.hosts_are_not_shared, VALUES, "hostAntiAffinity: required", "hostAntiAffinity: preferred"),
    (rules.scaling_changes_nothing_else, CONFIG, "range until 3", "range until (int $root.Values.replicas)"),
    (rules.nodes_call_themselves_as_seeds_do, STATEFULSET, ".svc:7401", ".svc:7402"),
    (rules.nodes_call_themselves_as_seeds_do, STATEFULSET, "serviceName: {{ include \"antumbra.headless\" . }}",
     "serviceName: {{ $name }}-api"),
    (rules.selectors_select, SERVICES, "targetPort: peer", "targetPort: pear"),
    (rules.selectors_select, SERVICES, "component: {{ include \"antumbra.doorComponent\" . }}", "component: door"),
    (rules.files_are_mounted, CONFIG, "/etc/antumbra/jwt/jwks.json", "/etc/antumbra/keys/jwks.json"),
    (rules.files_are_mounted, STATEFULSET, "- name: data\n              mountPath: /var/lib/antumbra",
     "- name: data\n              mountPath: /data"),
    (rules.gateways_hold_nothing, GATEWAY, "automountServiceAccountToken: false",
     "automountServiceAccountToken: true"),
    (rules.gateways_hold_nothing, GATEWAY, "value: \"false\"", "value: \"true\""),
    (rules.gateways_hold_nothing, GATEWAY, "- name: peer-authority\n              mountPath",
     "- name: authority\n              mountPath"),
    (rules.rights_are_least, f"{CHART}/templates/rbac.yaml", "verbs: [get]", "verbs: [get, patch]"),
    (rules.rights_are_least, STATEFULSET, "automountServiceAccountToken: {{ .Values.scaleIn.enabled }}",
     "automountServiceAccountToken: true"),
    (rules.peers_are_only_nodes, NETWORK, "- port: grpc", "- port: grpc\n        - port: peer"),
    (rules.peers_are_only_nodes, NETWORK, "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]"),
    (rules.memory_is_three_quarters, VALUES, "1536MiB", "1GiB"),
    (admission.lets_one_node_go_at_a_time, POLICY, "variables.former - 1 &&", "variables.former - 2 &&"),
    (admission.lets_one_node_go_at_a_time, POLICY, "variables.wanted >= {{ $minimum }}", "variables.wanted >= 1"),
    (admission.lets_one_node_go_at_a_time, POLICY, "? object.spec.replicas : 0", "? object.spec.replicas : 9"),
    (admission.lets_one_node_go_at_a_time, POLICY, "(variables.parking && variables.wanted == 0)",
     "variables.parking"),
    (admission.sees_both_ways_to_scale, POLICY, "[statefulsets, statefulsets/scale]", "[statefulsets]"),
    (admission.sees_both_ways_to_scale, POLICY, "validationActions: [Deny]", "validationActions: [Audit]"),
    (documents.every_value_is_in_the_table, VALUES, "  # How often metrics are read.\n", ""),
    (documents.every_value_is_in_the_table, VALUES, "interval: 30s", "interval: 60s"),
    (documents.named_values_exist, "deploy/README.md", "--set image.repository=", "--set image.repo="),
    (documents.runbooks_are_listed, "deploy/README.md", "(../docs/runbooks/install.md)", "()"),
    (static.shell_is_clean, "deploy/secrets", "\"$out/peer-ca/ca.pem\"", "$out/peer-ca/ca.pem"),
    (static.dockerfile_is_clean, "deploy/image/Dockerfile", "FROM ${BUILDER_IMAGE} AS compile",
     "FROM debian AS compile"),
    (static.yaml_is_clean, VALUES, "parked: false", "parked:  false"),
    (static.compose_is_valid, "deploy/compose.yaml", "  read_only: true", "  readonly: true"),
    (static.files_are_short, VALUES, "parked: false", "parked: false" + 500 * "\n"),
    (static.versions_agree, f"{CHART}/Chart.yaml", "appVersion: \"0.", "appVersion: \"9."),
]
# Those that the program itself must find.
FAULTS_OF_PROGRAM = [
    (program.chart_is_configured, CONFIG, "cluster:\n  seeds:", "cluster:\n  expect: 3\n  seeds:"),
    (program.chart_is_configured, STATEFULSET, "name: ANTUMBRA_PEER_ADVERTISE", "name: ANTUMBRA_PEER_ADVERTISES"),
    (program.chart_is_configured, VALUES, "memory_bytes_max:", "memory_byte_max:"),
    (program.compose_is_configured, "deploy/compose.yaml", "seeds = ", "seed = "),
    (program.commands_exist, STATEFULSET, "antumbra, prestop", "antumbra, prestart"),
    (program.commands_exist, "docs/runbooks/backup.md", "snapshot save", "snapshot store"),
    (program.commands_exist, "docs/runbooks/maintenance.md", "cluster drain", "cluster drain --hard"),
    (program.secrets_fit, "deploy/secrets", "secret \"$name-peer\"", "secret \"$name-pear\""),
    (program.secrets_fit, "deploy/secrets", "\"$node.key\" \"$out", "\"$node-key\" \"$out"),
    (program.secrets_fit, "deploy/secrets", "if [ \"$known\" != \"$cluster\" ]", "if false"),
]


@contextmanager
def copy_with(path, there, fault):
    """A tree in which one text is replaced, wherever it is in the file."""
    with temporary() as directory:
        root = Path(directory)
        shutil.copytree(REPOSITORY / "deploy", root / "deploy")
        shutil.copytree(REPOSITORY / "docs/runbooks", root / "docs/runbooks")
        shutil.copy(REPOSITORY / "Cargo.toml", root)
        text = (root / path).read_text()
        if there not in text:
            raise ValueError(f"{path} has no `{there}` to replace")
        (root / path).write_text(text.replace(there, fault))
        yield Tree(root)


def missed():
    """For each planted fault: what it is, and whether its check missed it, or broke instead of telling."""
    wanted = os.environ.get("ONLY")
    for check, path, there, fault in FAULTS + (FAULTS_OF_PROGRAM if binary() else []):
        if wanted and wanted not in check.__name__:
            continue
        name = f"{check.__name__} finds `{fault.strip().splitlines()[0] if fault.strip() else 'a line less'}`"
        try:
            with copy_with(path, there, fault) as tree:
                problems = list(check(tree))
        except Exception as error:
            name, problems = f"{name}: {error!r}", []
        yield name, not problems
