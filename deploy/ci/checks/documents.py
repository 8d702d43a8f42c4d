"""What the documents say about the chart: the table of values, and values that are named."""

import json
import re

import yaml

BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"


def leaves(values, place=""):
    """Paths of all values that have no values below, with their defaults."""
    for name, value in values.items():
        path = f"{place}{name}"
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}.")
        else:
            yield path, value


def comments(text):
    """The comment above each key, by its path."""
    found, above, open_keys = {}, [], []
    for line in text.splitlines():
        comment = re.fullmatch(r" *# ?(.*)", line)
        key = re.match(r"( *)([A-Za-z][A-Za-z0-9_]*):", line)
        if comment:
            above.append(comment[1])
            continue
        if key:
            depth = len(key[1]) // 2
            open_keys = open_keys[:depth] + [key[2]]
            found[".".join(open_keys)] = " ".join(above)
        above = []
    return found


def table(tree):
    """The table of all values, and the paths of those without a comment."""
    text = (tree.chart / "values.yaml").read_text()
    said = comments(text)
    rows, silent = ["| value | default | meaning |", "|---|---|---|"], []
    for path, default in leaves(yaml.safe_load(text)):
        meaning = said.get(path, "")
        if not meaning:
            silent.append(path)
        rows.append(f"| `{path}` | `{json.dumps(default)}` | {meaning} |")
    return "\n".join(rows) + "\n", silent


def every_value_is_in_the_table(tree):
    """deploy/README.md has every value with its default and meaning, as values.yaml says."""
    wanted, silent = table(tree)
    problems = [f"`{path}` has no comment in values.yaml" for path in silent]
    text = (tree.deploy / "README.md").read_text()
    if f"{BEGIN}{wanted}{END}" not in text:
        problems.append("the table of values is not that of values.yaml: `deploy/ci/check --write`")
    return problems


def write_table(tree):
    path = tree.deploy / "README.md"
    text = path.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(before + BEGIN + table(tree)[0] + END + after)


def guides(tree):
    """The documents that tell how to install and operate."""
    return [tree.deploy / "README.md", *sorted((tree.root / "docs/runbooks").glob("*.md"))]


def commands(text):
    """Shell commands of the `console` blocks, which are lines after `$ ` with what continues them, and commands of
    the program in backticks."""
    yield from re.findall(r"`(antumbra [^`]+)`", text)
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        lines = (line.strip() for line in block.replace("\\\n", " ").splitlines())
        yield from (line[2:] for line in lines if line.startswith("$ "))


def named_values_exist(tree):
    """Every value that a document sets is one of the chart."""
    values = yaml.safe_load((tree.chart / "values.yaml").read_text())
    known = {path for path, _ in leaves(values)}
    problems = []
    for guide in guides(tree):
        text = guide.read_text()
        for path in re.findall(r"(?<!config check )--set ['\"]?([A-Za-z][\w.]*)=", text):
            option = re.fullmatch(r"config\.[a-z]+\.[a-z_]+", path)
            inside = any(path.startswith(f"{one}.") for one in known)
            if path not in known and not option and not inside:
                problems.append(f"{guide.name}: there is no value `{path}`")
    return problems


def runbooks_are_listed(tree):
    """deploy/README.md leads to every runbook."""
    text = (tree.deploy / "README.md").read_text()
    runbooks = (tree.root / "docs/runbooks").glob("*.md")
    return [
        f"deploy/README.md does not link {path.name}"
        for path in sorted(runbooks)
        if f"(../docs/runbooks/{path.name})" not in text
    ]
