"""A copy of the repository to check, and what helm makes of its chart."""

import functools
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
TOOLS = Path(os.environ.get("ANTUMBRA_DEPLOY_TOOLS", Path.home() / ".cache/antumbra/deploy-tools"))
# The newest Kubernetes that the schemas know; a case may name another one.
NEWEST = "1.37"
NAMESPACE = "antumbra"


def run(*command, **more):
    """Runs a command to its end and gives what it printed."""
    command = [str(part) for part in command]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **more)


@dataclass(frozen=True)
class Case:
    """A file of values, and what its comments say about it."""

    path: Path

    @property
    def name(self):
        return self.path.stem

    def remark(self, key):
        found = re.search(rf"^# {key}: (.*)$", self.path.read_text(), re.MULTILINE)
        return found and found[1]

    @property
    def kubernetes(self):
        return self.remark("kubernetes") or NEWEST


@dataclass(frozen=True)
class Tree:
    """The root of the repository, or of a copy with a fault."""

    root: Path

    @property
    def deploy(self):
        return self.root / "deploy"

    @property
    def chart(self):
        return self.deploy / "helm/antumbra"

    @property
    def cases(self):
        return [Case(path) for path in sorted((self.deploy / "ci/cases").glob("*.yaml"))]

    @property
    def refused(self):
        return [Case(path) for path in sorted((self.deploy / "ci/refused").glob("*.yaml"))]

    def golden(self, case):
        return self.deploy / "ci/golden" / f"{case.name}.yaml"

    def template(self, case, *settings):
        """What `helm template` gives for a case, as a finished process."""
        sets = [part for setting in settings for part in ("--set", setting)]
        return run(
            "helm", "template", "antumbra", self.chart, "--namespace", NAMESPACE,
            "--kube-version", case.kubernetes, "--values", case.path, *sets,
        )

    def text(self, case, *settings):
        """The rendered text; an error when there is none."""
        return rendered(self, case, settings)

    def objects(self, case, *settings):
        """The rendered objects."""
        parts = yaml.load_all(self.text(case, *settings), Loader=yaml.CSafeLoader)
        return [part for part in parts if part]


class NotRendered(Exception):
    """helm refused what it should take."""


@functools.lru_cache(maxsize=None)
def rendered(tree, case, settings):
    done = tree.template(case, *settings)
    if done.returncode != 0:
        raise NotRendered(f"{case.name}: {done.stderr.strip()}")
    return done.stdout


def of_kind(objects, kind, component=None):
    """The objects of a kind, of one component if asked."""
    label = "app.kubernetes.io/component"
    labels = lambda one: one["metadata"].get("labels", {})
    return [
        one for one in objects
        if one["kind"] == kind and component in (None, labels(one).get(label))
    ]


def workloads(objects):
    """StatefulSets and Deployments."""
    return [one for one in objects if one["kind"] in ("StatefulSet", "Deployment")]


def pod_of(workload):
    return workload["spec"]["template"]["spec"]


def configuration(objects):
    """The text of antumbra.toml."""
    (found,) = of_kind(objects, "ConfigMap")
    return found["data"]["antumbra.toml"]


def environment(workload, pod):
    """The environment of the node in a pod, as Kubernetes fills it in."""
    fields = {"metadata.name": pod, "status.podIP": "10.0.0.9"}
    filled = {}
    for variable in pod_of(workload)["containers"][0]["env"]:
        if "valueFrom" in variable:
            # A label that a pod has not is empty.
            value = fields.get(variable["valueFrom"]["fieldRef"]["fieldPath"], "")
        else:
            value = re.sub(r"\$\((\w+)\)", lambda m: filled.get(m[1], m[0]), variable["value"])
        filled[variable["name"]] = value
    return filled


def binary():
    """The program to ask, if one is given."""
    return os.environ.get("ANTUMBRA_BIN")


def clean_environment(**more):
    """The environment without variables of the program that the caller happens to have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANTUMBRA_")}
    return {**kept, **more}


def temporary():
    return tempfile.TemporaryDirectory(prefix="antumbra-deploy-")
