"""Linters for what is not the chart."""

import re
import tomllib

import yaml

from .tree import run

LINES_MAX = 500
# Made by programs.
# A dashboard is exported from Grafana as it is.
UNCOUNTED = ("golden/", "package-lock.json", "dashboard.json")


def scripts(tree):
    """All shell scripts of deploy/."""
    files = (path for path in sorted(tree.deploy.rglob("*")) if path.is_file())
    return [path for path in files if path.read_bytes().startswith(b"#!/usr/bin/env bash")]


def shell_is_clean(tree):
    """shellcheck finds nothing in the scripts."""
    done = run("shellcheck", *scripts(tree))
    return [done.stdout] if done.returncode != 0 else []


def dockerfile_is_clean(tree):
    """hadolint finds nothing in the Dockerfile."""
    done = run("hadolint", tree.deploy / "image/Dockerfile")
    return [done.stdout + done.stderr] if done.returncode != 0 else []


def yaml_is_clean(tree):
    """yamllint finds nothing in the files that people write."""
    written = [
        path for path in sorted(tree.deploy.rglob("*.yaml"))
        if "templates" not in path.parts and "golden" not in path.parts
    ]
    done = run("yamllint", "--strict", "--config-file", tree.deploy / "ci/yamllint.yaml", *written)
    return [done.stdout + done.stderr] if done.returncode != 0 else []


def compose_is_valid(tree):
    """compose.yaml keeps the schema of compose files."""
    done = run(
        "check-jsonschema", "--builtin-schema", "vendor.compose-spec", tree.deploy / "compose.yaml"
    )
    return [done.stdout + done.stderr] if done.returncode != 0 else []


def files_are_short(tree):
    """No file is longer than 500 lines but those that programs make."""
    problems = []
    for path in sorted(tree.deploy.rglob("*")):
        if not path.is_file() or any(part in str(path) for part in UNCOUNTED):
            continue
        lines = len(path.read_bytes().splitlines())
        if lines > LINES_MAX:
            problems.append(f"{path.relative_to(tree.root)} has {lines} lines")
    return problems


def versions_agree(tree):
    """The chart, the image of compose.yaml and the program have one version."""
    manifest = tomllib.loads((tree.root / "Cargo.toml").read_text())
    version = manifest["workspace"]["package"]["version"]
    chart = yaml.safe_load((tree.chart / "Chart.yaml").read_text())
    compose = (tree.deploy / "compose.yaml").read_text()
    seen = {chart["appVersion"], *re.findall(r"ANTUMBRA_IMAGE:-antumbra:([^}]*)", compose)}
    return [] if seen == {version} else [f"the program is {version}, deploy/ says {sorted(seen)}"]
