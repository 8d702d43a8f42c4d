"""What the program itself says of deploy/; needs ANTUMBRA_BIN."""

import functools
import re
import shlex
from pathlib import Path

import yaml

from .chart import invalid
from .documents import commands, guides
from .tree import (
    NEWEST, binary, clean_environment, configuration, environment, of_kind, pod_of, run,
    temporary, workloads,
)

# The Secrets of deploy/secrets.
MADE = ["antumbra-peer", "antumbra-doors", "antumbra-bootstrap", "antumbra-peer-authority"]
# What ends a command in a line of shell.
OPERATORS = {"|", "&&", "||", ";", ">", "<"}


def checked(text, variables):
    """What `antumbra config check` says against a file and an environment."""
    with temporary() as directory:
        file = Path(directory) / "antumbra.toml"
        file.write_text(text)
        done = run(
            binary(), "config", "check", "-f", file, cwd=directory, env=clean_environment(**variables)
        )
    warned = "warning:" in done.stdout
    return f"{done.stdout}{done.stderr}".strip() if done.returncode != 0 or warned else None


def chart_is_configured(tree):
    """The node takes what the chart gives it: seeds, nodes that are none, and gateways."""
    problems = []
    for case in tree.cases:
        objects = tree.objects(case)
        for workload in workloads(objects):
            name = workload["metadata"]["name"]
            storage = workload["kind"] == "StatefulSet"
            for pod in [f"{name}-0", f"{name}-7"] if storage else [f"{name}-7d9f8b6c5-x2x8z"]:
                said = checked(configuration(objects), environment(workload, pod))
                if said:
                    problems.append(f"{case.name}, {pod}: {said}")
    return problems


def compose_is_configured(tree):
    """The nodes take what compose.yaml gives them."""
    compose = yaml.safe_load((tree.deploy / "compose.yaml").read_text())
    text = compose["configs"]["antumbra"]["content"]
    problems = []
    for name, service in compose["services"].items():
        said = checked(text, service["environment"])
        if said:
            problems.append(f"{name}: {said}")
    return problems


def commands_exist(tree):
    """Every command of the program that a document, the chart or compose.yaml gives exists, with its flags."""
    problems = []
    for guide in guides(tree):
        for line in commands(guide.read_text()):
            for words in invocations(line):
                problem = unknown(words)
                if problem:
                    problems.append(f"{guide.name}: `{line}`: {problem}")
    for case in tree.cases:
        for workload in workloads(tree.objects(case)):
            for words in container_commands(workload):
                problem = unknown(words)
                if problem:
                    problems.append(f"{case.name}: {' '.join(words)}: {problem}")
    compose = yaml.safe_load((tree.deploy / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        problem = unknown(service["command"])
        if problem:
            problems.append(f"{name}: {problem}")
    return sorted(set(problems))


def invocations(line):
    """The arguments of each `antumbra` in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    words = list(lexer)
    for start, word in enumerate(words):
        first = start == 0 or words[start - 1] in {"--", "|", "&&", ";", "("} or "=" in words[start - 1]
        if word == "antumbra" and first:
            end = next((n for n in range(start, len(words)) if words[n] in OPERATORS), len(words))
            yield words[start + 1 : end]


def container_commands(workload):
    pod = pod_of(workload)
    for container in pod["containers"] + pod.get("initContainers", []):
        yield container["args"]
        hook = container.get("lifecycle", {}).get("preStop")
        if hook:
            yield hook["exec"]["command"][1:]


def unknown(words):
    """What of a command the program does not know."""
    path, flags = [], {word.split("=")[0] for word in words if word.startswith("--")}
    for word in words:
        text = help_of(tuple(path))
        if word.startswith("-") or word not in subcommands(text):
            break
        path.append(word)
    text = help_of(tuple(path))
    if not path or subcommands(text):
        return f"no command `{' '.join(words[: len(path) + 1])}`"
    missing = [flag for flag in sorted(flags) if not re.search(rf"{flag}\b", text)]
    return f"no flag {missing}" if missing else None


@functools.lru_cache(maxsize=None)
def help_of(path):
    return run(binary(), *path, "--help", env=clean_environment()).stdout


def subcommands(text):
    block = re.search(r"^Commands:\n((?:  .*\n?)+)", text, re.MULTILINE)
    return set(re.findall(r"^  ([a-z-]+)", block[1], re.MULTILINE)) if block else set()


def by_name(text):
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}


def secrets_fit(tree):
    """deploy/secrets makes every Secret and every file that the pods ask for, renews them, and knows its cluster."""
    with temporary() as directory:
        script = [tree.deploy / "secrets", "--out", Path(directory) / "kept", "--nodes", 3, "--gateways"]
        first = run(*script, env=clean_environment(ANTUMBRA=binary()))
        again = run(*script, env=clean_environment(ANTUMBRA=binary()))
        other = run(*script, "--cluster", "other", env=clean_environment(ANTUMBRA=binary()))
    if other.returncode == 0:
        return ["the authorities of one cluster make certificates of another"]
    if first.returncode != 0 or again.returncode != 0:
        return [first.stderr + again.stderr]
    made, renewed = by_name(first.stdout), by_name(again.stdout)
    problems = [said for said in (invalid(one, NEWEST) for one in made.values()) if said]
    missing = [name for name in MADE if ("Secret", name) not in made or ("Secret", name) not in renewed]
    if missing:
        return problems + [f"no Secrets {missing}"]
    peers, peers_again = (objects["Secret", "antumbra-peer"]["data"] for objects in (made, renewed))
    node = "antumbra-0.pem"
    if peers["ca.pem"] != peers_again["ca.pem"] or peers.get(node) == peers_again.get(node):
        problems.append("a second run does not keep the authority and renew the certificates")
    (default,) = [case for case in tree.cases if case.name == "default"]
    objects = tree.objects(default, "gateway.enabled=true", "access.bootstrapTokenSecretName=antumbra-bootstrap")
    for workload in workloads(objects):
        for volume in pod_of(workload)["volumes"]:
            name = volume.get("secret", {}).get("secretName")
            if name and ("Secret", name) not in made:
                problems.append(f"no Secret {name}")
    (nodes,) = of_kind(objects, "StatefulSet")
    for ordinal in range(3):
        filled = environment(nodes, f"antumbra-{ordinal}")
        for variable in ("ANTUMBRA_PEER_TLS_CERTIFICATE", "ANTUMBRA_PEER_TLS_KEY"):
            if Path(filled[variable]).name not in peers:
                problems.append(f"the Secret of peers has no {filled[variable]}")
    for file in {"tls.crt", "tls.key", "ca.crt"} - set(made["Secret", "antumbra-doors"]["data"]):
        problems.append(f"the Secret of the doors has no {file}")
    return problems
