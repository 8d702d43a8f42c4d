"""What the rendered objects must be, whatever the values are."""

import re
import tomllib

from .tree import NAMESPACE, configuration, environment, of_kind, pod_of, workloads

TOKEN = "automountServiceAccountToken"


def every_case(rule):
    """Makes a check of all cases of a rule for the objects of one."""

    def check(tree):
        return [
            f"{case.name}: {problem}"
            for case in tree.cases
            for problem in rule(tree.objects(case))
        ]

    check.__name__, check.__doc__ = rule.__name__, rule.__doc__
    return check


@every_case
def pods_are_restricted(objects):
    """Pods keep the restricted standard, as user 65532 on a read-only root."""
    for workload in workloads(objects):
        pod, name = pod_of(workload), workload["metadata"]["name"]
        security = pod["securityContext"]
        if not security.get("runAsNonRoot") or security.get("runAsUser") != 65532:
            yield f"{name} may run as root"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name} has no seccomp profile"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name} gets an environment from Services"
        for container in pod["containers"] + pod.get("initContainers", []):
            wanted = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if container.get("securityContext") != wanted:
                yield f"{name}/{container['name']} is not locked up"
            if "cpu" in container["resources"].get("limits", {}):
                yield f"{name}/{container['name']} can be throttled"
        if any("hostPath" in volume for volume in pod["volumes"]):
            yield f"{name} mounts the host"


@every_case
def storage_nodes_are_as_designed(objects):
    """The StatefulSet starts in parallel, goes one by one, and keeps its volumes."""
    (one,) = of_kind(objects, "StatefulSet")
    spec, pod = one["spec"], pod_of(one)
    rolling = spec["updateStrategy"]["rollingUpdate"]
    retention = spec["persistentVolumeClaimRetentionPolicy"]
    probes = {"startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    container = pod["containers"][0]
    startup = container["startupProbe"]
    scheme = startup["httpGet"].get("scheme", "HTTP").lower()
    facts = {
        "starts in parallel": spec["podManagementPolicy"] == "Parallel",
        "updates one at a time": rolling["maxUnavailable"] == 1 and "partition" in rolling,
        "waits between updates": spec["minReadySeconds"] == 10,
        "keeps volumes": retention == {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "has ten minutes to stop": pod["terminationGracePeriodSeconds"] == 600,
        "waits in preStop": container["lifecycle"]["preStop"]["exec"]["command"]
        == ["/usr/local/bin/antumbra", "prestop", "--endpoint", f"{scheme}://localhost:7480"],
        "may start for half an hour": startup["periodSeconds"] * startup["failureThreshold"] == 1800,
        "asks the right doors": all(
            container[probe]["httpGet"] == {**container["startupProbe"]["httpGet"], "path": path}
            for probe, path in probes.items()
        ),
        "is spread over zones": pod["topologySpreadConstraints"][0]["whenUnsatisfiable"]
        == "ScheduleAnyway",
        "restarts for a new file": "checksum/config" in spec["template"]["metadata"]["annotations"],
    }
    yield from (f"the StatefulSet no longer {fact}" for fact, holds in facts.items() if not holds)


def hosts_are_not_shared(tree):
    """By default no two storage nodes are on one host."""
    (default,) = [case for case in tree.cases if case.name == "default"]
    (one,) = of_kind(tree.objects(default), "StatefulSet")
    anti = pod_of(one)["affinity"]["podAntiAffinity"]
    terms = anti.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    if [term["topologyKey"] for term in terms] != ["kubernetes.io/hostname"]:
        return [f"nodes may share a host: {anti}"]
    labels = one["spec"]["template"]["metadata"]["labels"]
    selected = terms[0]["labelSelector"]["matchLabels"].items() <= labels.items()
    return [] if selected else ["the anti-affinity selects no storage node"]


def scaling_changes_nothing_else(tree):
    """With another number of nodes the file, the pods and the seeds are the same: no pod is started anew."""
    problems = []
    for case in tree.cases:
        few, many = tree.objects(case, "replicas=3"), tree.objects(case, "replicas=9")
        for one in few + many:
            if one["kind"] == "StatefulSet":
                one["spec"]["replicas"] = None
        if few != many:
            problems.append(f"{case.name}: more than the number of replicas changes")
        seeds = tomllib.loads(configuration(few))["cluster"]["seeds"].split(",")
        name = of_kind(few, "StatefulSet")[0]["metadata"]["name"]
        wanted = [
            f"{name}-{n}={name}-{n}.{name}-headless.{NAMESPACE}.svc:7401" for n in range(3)
        ]
        if seeds != wanted:
            problems.append(f"{case.name}: seeds are {seeds}")
    return problems


@every_case
def nodes_call_themselves_as_seeds_do(objects):
    """A seed advertises the address that the list of seeds has."""
    (one,) = of_kind(objects, "StatefulSet")
    seeds = tomllib.loads(configuration(objects))["cluster"]["seeds"]
    for seed in seeds.split(","):
        name, address = seed.split("=")
        filled = environment(one, name)
        if filled["ANTUMBRA_NODE_NAME"] != name or filled["ANTUMBRA_PEER_ADVERTISE"] != address:
            yield f"{name} advertises {filled['ANTUMBRA_PEER_ADVERTISE']}, the seeds say {address}"
    (headless,) = [one for one in of_kind(objects, "Service") if one["spec"].get("clusterIP") == "None"]
    if headless["metadata"]["name"] != one["spec"]["serviceName"]:
        yield "the StatefulSet is served by another Service"
    if not headless["spec"].get("publishNotReadyAddresses"):
        yield "nodes that are not ready cannot be found"


@every_case
def selectors_select(objects):
    """Every selector finds pods of the chart, and every port that is named is one of theirs."""
    templates = [one["spec"]["template"] for one in workloads(objects)]

    def selected(labels):
        return [t for t in templates if labels.items() <= t["metadata"]["labels"].items()]

    for service in of_kind(objects, "Service"):
        name, pods = service["metadata"]["name"], selected(service["spec"]["selector"])
        if not pods:
            yield f"Service {name} selects nothing"
        for template in pods:
            ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"Service {name}: no port {port['targetPort']}"
    for kind in ("PodDisruptionBudget", "StatefulSet", "Deployment"):
        for one in of_kind(objects, kind):
            if len(selected(one["spec"]["selector"]["matchLabels"])) != 1:
                yield f"{kind} {one['metadata']['name']} does not select one kind of pods"


@every_case
def files_are_mounted(objects):
    """Every file that a node is told of lies in a volume, and every volume that is mounted exists."""
    options = tomllib.loads(configuration(objects))
    paths = {
        value
        for section in options.values()
        for name, value in section.items()
        if isinstance(value, str) and value.startswith("/")
    }
    for workload in workloads(objects):
        pod, name = pod_of(workload), workload["metadata"]["name"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        for container in pod["containers"] + pod.get("initContainers", []):
            for mount in container["volumeMounts"]:
                if mount["name"] not in volumes:
                    yield f"{name}/{container['name']}: no volume {mount['name']}"
        filled = environment(workload, "pod")
        own = {value for value in filled.values() if value.startswith("/")}
        overruled = {"/etc/antumbra/peer/ca.pem"} if "ANTUMBRA_PEER_TLS_AUTHORITY" in filled else set()
        mounts = [mount["mountPath"] + "/" for mount in pod["containers"][0]["volumeMounts"]]
        for path in (paths | own) - overruled:
            if not path.startswith(tuple(mounts)):
                yield f"{name}: {path} is in no volume"


@every_case
def gateways_hold_nothing(objects):
    """A gateway has no token, no disk, and does not see the key of the authority while it runs."""
    for one in of_kind(objects, "Deployment", "gateway"):
        pod = pod_of(one)
        if pod.get(TOKEN) is not False:
            yield "a gateway gets a token of the API server"
        if environment(one, "pod").get("ANTUMBRA_NODE_STORAGE") != "false":
            yield "a gateway would keep replicas"
        if any("persistentVolumeClaim" in volume for volume in pod["volumes"]):
            yield "a gateway has a disk"
        secrets = {v["name"]: v["secret"] for v in pod["volumes"] if "secret" in v}
        for mount in pod["containers"][0]["volumeMounts"]:
            secret = secrets.get(mount["name"])
            if secret and "authority" in secret["secretName"] and "items" not in secret:
                yield "a running gateway sees the key of the authority"


@every_case
def rights_are_least(objects):
    """The only right is to read the StatefulSet of the nodes, and only when it is needed."""
    (one,) = of_kind(objects, "StatefulSet")
    scales_in = environment(one, "pod").get("ANTUMBRA_CLUSTER_MEMBERSHIP") == "kubernetes"
    rules = [rule for role in of_kind(objects, "Role") for rule in role["rules"]]
    name = one["metadata"]["name"]
    wanted = {"apiGroups": ["apps"], "resources": ["statefulsets"], "resourceNames": [name], "verbs": ["get"]}
    if rules != ([wanted] if scales_in else []):
        yield f"rights are {rules}"
    if pod_of(one)[TOKEN] != scales_in:
        yield "the token is mounted when it is not needed, or not when it is"
    if of_kind(objects, "ClusterRole") or of_kind(objects, "ClusterRoleBinding"):
        yield "there are rights for the whole cluster"


@every_case
def peers_are_only_nodes(objects):
    """The network policy is closed by default, and lets own pods alone to the peer port."""
    for policy in of_kind(objects, "NetworkPolicy"):
        spec = policy["spec"]
        own = {"app.kubernetes.io/name": "antumbra", "app.kubernetes.io/instance": "antumbra"}
        for rule in spec.get("ingress", []):
            ports = [port["port"] for port in rule.get("ports", [])]
            if not ports:
                yield "a rule opens every port"
            if "peer" in ports and rule.get("from") != [{"podSelector": {"matchLabels": own}}]:
                yield f"the peer port is open for {rule.get('from')}"
            if "from" not in rule and not set(ports) <= {"mqtt", "mqtts"}:
                yield f"{ports} are open for everybody"
    closed = [
        policy for policy in of_kind(objects, "NetworkPolicy")
        if policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    ]
    if of_kind(objects, "NetworkPolicy") and len(closed) != 1:
        yield "not every pod is closed"


def memory_is_three_quarters(tree):
    """By default a node begins nothing new when three quarters of its memory are used."""
    (default,) = [case for case in tree.cases if case.name == "default"]
    objects = tree.objects(default)
    (one,) = of_kind(objects, "StatefulSet")
    limit = pod_of(one)["containers"][0]["resources"]["limits"]["memory"]
    ceiling = tomllib.loads(configuration(objects))["limits"]["memory_bytes_max"]
    gib, mib = re.fullmatch(r"(\d+)Gi", limit), re.fullmatch(r"(\d+)MiB", ceiling)
    if not gib or not mib or int(mib[1]) * 4 != int(gib[1]) * 1024 * 3:
        return [f"{ceiling} is not three quarters of {limit}"]
    return []
