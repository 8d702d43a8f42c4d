"""The chart as helm, the schemas of Kubernetes and its own schema of values see it."""

import functools
import json

import kubernetes_validate
import kubernetes_validate.utils
import yaml

from .tree import TOOLS, NotRendered, of_kind, run

# It would read the same large files for every object.
kubernetes_validate.utils.schema_contents = functools.lru_cache(maxsize=None)(
    kubernetes_validate.utils.schema_contents
)
# Custom resources have validators of their own.
CUSTOM = {"ServiceMonitor"}


def lints(tree):
    """helm finds nothing wrong with the chart in any case."""
    problems = []
    for case in tree.cases:
        done = run(
            "helm", "lint", "--strict", "--quiet", "--kube-version", case.kubernetes,
            "--values", case.path, tree.chart,
        )
        if done.returncode != 0:
            problems.append(f"{case.name}: {done.stdout}{done.stderr}")
    return problems


def is_as_recorded(tree):
    """What is rendered is what the golden files say."""
    problems = []
    for case in tree.cases:
        golden = tree.golden(case)
        if not golden.exists() or golden.read_text() != tree.text(case):
            problems.append(f"{golden.name} differs from what is rendered: `deploy/ci/check --write`")
    recorded = {path.stem for path in (tree.deploy / "ci/golden").glob("*.yaml")}
    spare = recorded - {case.name for case in tree.cases}
    return problems + [f"golden/{name}.yaml belongs to no case" for name in sorted(spare)]


def write_golden(tree):
    for case in tree.cases:
        tree.golden(case).write_text(tree.text(case))


def kubernetes_takes_it(tree):
    """Every object is valid, without unknown fields, in the newest Kubernetes and in the oldest of the case."""
    problems = []
    for case in tree.cases:
        oldest = "1.27" if not of_kind(tree.objects(case), "ValidatingAdmissionPolicy") else "1.30"
        for version in {oldest, case.kubernetes}:
            for one in tree.objects(case):
                if one["kind"] in CUSTOM:
                    continue
                problem = invalid(one, version)
                if problem:
                    problems.append(f"{case.name}, Kubernetes {version}: {problem}")
    return problems


def invalid(one, version):
    """What the schema of this version of Kubernetes says against an object."""
    try:
        kubernetes_validate.validate(one, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(str(part) for part in error.path)
        return f"{one['kind']} {one['metadata']['name']}: {place}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return error.message
    return None


def prometheus_takes_it(tree):
    """ServiceMonitors have the fields that the operator of Prometheus needs."""
    monitors = [one for case in tree.cases for one in of_kind(tree.objects(case), "ServiceMonitor")]
    if not monitors:
        return ["no case has a ServiceMonitor"]
    script = tree.deploy / "ci/service-monitor.js"
    done = run("node", script, TOOLS, input=json.dumps(monitors))
    if done.returncode != 0:
        return [done.stderr]
    return done.stdout.splitlines()


def refuses(tree):
    """Values that would lose data or do nothing are refused, and for the reason that the file names."""
    problems = []
    for case in tree.refused:
        expected = case.remark("expect")
        done = tree.template(case)
        if done.returncode == 0:
            problems.append(f"refused/{case.name}.yaml is taken")
        elif not expected or expected not in done.stderr:
            problems.append(f"refused/{case.name}.yaml: not `{expected}` but {done.stderr.strip()}")
    return problems


def schema_is_complete(tree):
    """values.yaml and its schema know the same values, and no object of it is open by accident."""
    schema = json.loads((tree.chart / "values.schema.json").read_text())
    values = yaml.safe_load((tree.chart / "values.yaml").read_text())
    return differences(schema, values, "", schema["definitions"])


# Objects whose members are not ours to name.
FREE = ("config.", "global")


def differences(schema, values, place, definitions):
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    problems = []
    if schema.get("additionalProperties") is not False and not f"{place}.".startswith(FREE):
        problems.append(f"the schema of `{place}` takes unknown values")
    known, given = set(schema["properties"]), set(values)
    optional = {"global", "ephemeral-storage"} | ({"cpu"} if place.endswith("limits") else set())
    if not place.startswith("config"):
        problems += [f"`{place}.{name}` is not in values.yaml" for name in sorted(known - given - optional)]
        problems += [f"`{place}.{name}` is not in the schema" for name in sorted(given - known)]
    for name in sorted(known & given):
        below = f"{place}.{name}".lstrip(".")
        problems += differences(schema["properties"][name], values[name], below, definitions)
    return problems


def fails_to_render(tree):
    """Problems of cases that do not render at all, for a clear message first."""
    problems = []
    for case in tree.cases:
        try:
            tree.text(case)
        except NotRendered as error:
            problems.append(str(error))
    return problems
