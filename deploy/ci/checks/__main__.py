"""Runs all checks, then each on planted faults, and counts. `--write` makes what is made from the chart."""

import sys
import time
import traceback

from . import admission, chart, documents, planted, program, rules, static
from .tree import REPOSITORY, Tree, binary

CHECKS = [
    chart.fails_to_render,
    chart.lints,
    chart.is_as_recorded,
    chart.kubernetes_takes_it,
    chart.prometheus_takes_it,
    chart.refuses,
    chart.schema_is_complete,
    rules.pods_are_restricted,
    rules.storage_nodes_are_as_designed,
    rules.hosts_are_not_shared,
    rules.scaling_changes_nothing_else,
    rules.nodes_call_themselves_as_seeds_do,
    rules.selectors_select,
    rules.files_are_mounted,
    rules.gateways_hold_nothing,
    rules.rights_are_least,
    rules.peers_are_only_nodes,
    rules.memory_is_three_quarters,
    admission.lets_one_node_go_at_a_time,
    admission.sees_both_ways_to_scale,
    documents.every_value_is_in_the_table,
    documents.named_values_exist,
    documents.runbooks_are_listed,
    static.shell_is_clean,
    static.dockerfile_is_clean,
    static.yaml_is_clean,
    static.compose_is_valid,
    static.files_are_short,
    static.versions_agree,
]
# These ask the program.
CHECKS_OF_PROGRAM = [
    program.chart_is_configured,
    program.compose_is_configured,
    program.commands_exist,
    program.secrets_fit,
]


def problems_of(check, tree):
    """What a check finds; that it breaks is a problem, too."""
    try:
        return list(check(tree))
    except Exception:
        return [traceback.format_exc()]


def main():
    start, tree = time.monotonic(), Tree(REPOSITORY)
    if sys.argv[1:] == ["--write"]:
        chart.write_golden(tree)
        documents.write_table(tree)
        return 0
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    passed = failed = 0
    for check in CHECKS + (CHECKS_OF_PROGRAM if binary() else []):
        problems = problems_of(check, tree)
        passed, failed = passed + (not problems), failed + bool(problems)
        for problem in problems:
            print(f"FAILED {check.__name__}: {problem}")
    for name, was_missed in planted.missed():
        passed, failed = passed + (not was_missed), failed + was_missed
        if was_missed:
            print(f"FAILED planted fault: {name}")
    if not binary():
        print("not checked: what the program says of configurations and commands; set ANTUMBRA_BIN")
    print(f"{time.monotonic() - start:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
