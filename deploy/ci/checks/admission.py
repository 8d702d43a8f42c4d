"""The admission policy, evaluated: which changes of the number of nodes pass."""

import celpy

from .tree import of_kind

ALLOWED = {"antumbra/parking": "allowed"}
OTHER = {"antumbra/parking": "no"}

# Former replicas, wanted replicas, annotations, and whether it passes. A Scale leaves out a zero.
CASES = [
    (5, 4, None, True),
    (5, 3, None, False),
    (4, 3, None, True),
    (3, 2, None, False),
    (3, 6, None, True),
    (3, 3, None, True),
    (3, 0, None, False),
    (3, None, None, False),
    (5, 0, ALLOWED, True),
    (5, None, ALLOWED, True),
    (5, 0, OTHER, False),
    (5, 2, ALLOWED, False),
    (5, 3, ALLOWED, False),
    (0, 3, ALLOWED, True),
    (None, 3, None, True),
    (0, 0, None, True),
    (None, None, None, True),
    (0, 2, None, True),
]


def scale(replicas, annotations):
    """A Scale or StatefulSet as the policy sees it."""
    spec = {} if replicas is None else {"replicas": replicas}
    metadata = {"name": "antumbra"} if annotations is None else {"annotations": annotations}
    return {"metadata": metadata, "spec": spec}


class Policy:
    """A ValidatingAdmissionPolicy whose expressions are compiled."""

    def __init__(self, policy):
        environment = celpy.Environment()
        compiled = lambda text: environment.program(environment.compile(text))
        spec = policy["spec"]
        self.variables = [(one["name"], compiled(one["expression"])) for one in spec["variables"]]
        self.validations = [compiled(one["expression"]) for one in spec["validations"]]

    def passes(self, former, wanted):
        known = {
            "object": celpy.json_to_cel(wanted),
            "oldObject": celpy.json_to_cel(former),
            "variables": celpy.celtypes.MapType(),
        }
        for name, program in self.variables:
            known["variables"][celpy.celtypes.StringType(name)] = program.evaluate(known)
        return all(bool(program.evaluate(known)) for program in self.validations)


def lets_one_node_go_at_a_time(tree):
    """The policy passes and refuses what it should, also for objects with missing fields."""
    problems = []
    (default,) = [case for case in tree.cases if case.name == "default"]
    (policy,) = of_kind(tree.objects(default), "ValidatingAdmissionPolicy")
    compiled = Policy(policy)
    for former, wanted, annotations, expected in CASES:
        passes = compiled.passes(scale(former, None), scale(wanted, annotations))
        if passes != expected:
            problems.append(f"{former} to {wanted} with {annotations}: {passes}")
    bare = {"metadata": {}}
    if compiled.passes(scale(3, None), bare):
        problems.append("an object without spec passes")
    (five,) = of_kind(
        tree.objects(default, "config.cluster.replication_factor=5", "replicas=7"),
        "ValidatingAdmissionPolicy",
    )
    if Policy(five).passes(scale(5, None), scale(4, None)):
        problems.append("5 to 4 passes with five replicas of every shard")
    return problems


def sees_both_ways_to_scale(tree):
    """The policy is asked about the StatefulSet of this release and about `kubectl scale`, and about no other."""
    problems = []
    for case in tree.cases:
        objects = tree.objects(case)
        (nodes,) = of_kind(objects, "StatefulSet")
        for policy in of_kind(objects, "ValidatingAdmissionPolicy"):
            (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
            if rule["resources"] != ["statefulsets", "statefulsets/scale"]:
                problems.append(f"{case.name}: it sees {rule['resources']}")
            if rule["resourceNames"] != [nodes["metadata"]["name"]]:
                problems.append(f"{case.name}: it is for {rule['resourceNames']}")
            if policy["spec"]["failurePolicy"] != "Fail":
                problems.append(f"{case.name}: it passes what it cannot judge")
            (binding,) = of_kind(objects, "ValidatingAdmissionPolicyBinding")
            if binding["spec"]["policyName"] != policy["metadata"]["name"]:
                problems.append(f"{case.name}: it is bound to nothing")
            if binding["spec"]["validationActions"] != ["Deny"]:
                problems.append(f"{case.name}: it does not refuse")
            space = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
            if space != {"kubernetes.io/metadata.name": nodes["metadata"]["namespace"]}:
                problems.append(f"{case.name}: it is for {space}")
    return problems
