//! The policy is the one of the chart, as it is rendered for a replication factor of 3.

use serde_json::json;

use super::*;
use crate::kubesim::manifest::Manifests;

const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: lamps.fleet.scale-in
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
      - apiGroups: [apps]
        apiVersions: [v1]
        operations: [UPDATE]
        resources: [statefulsets, statefulsets/scale]
        resourceNames: [lamps]
  variables:
    - name: wanted
      expression: "has(object.spec) && has(object.spec.replicas) ? object.spec.replicas : 0"
    - name: former
      expression: "has(oldObject.spec) && has(oldObject.spec.replicas) ? oldObject.spec.replicas : 0"
    - name: parking
      expression: >-
        has(object.metadata.annotations) && 'antumbra/parking' in object.metadata.annotations
        && object.metadata.annotations['antumbra/parking'] == 'allowed'
  validations:
    - expression: >-
        variables.wanted >= variables.former
        || (variables.wanted >= variables.former - 1 && variables.wanted >= 3)
        || (variables.parking && variables.wanted == 0)
      message: one at a time, please
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: lamps.fleet.scale-in
spec:
  policyName: lamps.fleet.scale-in
  validationActions: [Deny]
  matchResources:
    namespaceSelector:
      matchLabels:
        kubernetes.io/metadata.name: fleet
"#;

fn admission(text: &str) -> Result<Admission> {
    let objects = Manifests::parse(text)?;
    Admission::read(&objects.policies, &objects.bindings)
}

fn scale(replicas: Option<i64>) -> Json {
    let mut spec = json!({});
    if let Some(replicas) = replicas {
        spec = json!({"replicas": replicas});
    }
    json!({"kind": "Scale", "metadata": {"name": "lamps"}, "spec": spec})
}

fn labels(namespace: &str) -> Labels {
    let name = "kubernetes.io/metadata.name".to_owned();
    [(name, namespace.to_owned())].into()
}

fn judge(admission: &Admission, old: &Json, new: &Json) -> Option<Denial> {
    let request = Request {
        operation: "UPDATE",
        group: "apps",
        version: "v1",
        resource: "statefulsets/scale",
        name: "lamps",
        namespace_labels: &labels("fleet"),
        object: new,
        old_object: old,
    };
    admission.judge(&request).unwrap()
}

fn passes(old: i64, new: Option<i64>) -> bool {
    let admission = admission(POLICY).unwrap();
    judge(&admission, &scale(Some(old)), &scale(new)).is_none()
}

#[test]
fn policy_lets_the_set_grow_and_shrink_by_one_to_the_replication_factor() {
    assert!(passes(3, Some(6)));
    assert!(passes(5, Some(5)));
    assert!(passes(5, Some(4)));
    assert!(passes(4, Some(3)));
    assert!(!passes(5, Some(3)), "two at a time");
    assert!(!passes(3, Some(2)), "fewer than a shard has replicas");
    assert!(!passes(1, Some(0)));
    assert!(passes(0, Some(3)));
}

/// `kubectl scale --replicas=0` sends a Scale in which the number is left out.
#[test]
fn number_that_is_left_out_is_zero() {
    assert!(!passes(3, None));
    let admission = admission(POLICY).unwrap();
    let denial = judge(&admission, &scale(Some(3)), &scale(None)).unwrap();
    assert_eq!(denial.policy, "lamps.fleet.scale-in");
    assert_eq!(denial.message, "one at a time, please");
}

#[test]
fn annotation_of_the_set_itself_allows_parking() {
    let admission = admission(POLICY).unwrap();
    let set = |replicas: i64, parking: &str| {
        json!({"metadata": {"annotations": {"antumbra/parking": parking}},
               "spec": {"replicas": replicas}})
    };
    let judge = |old, new| judge(&admission, &old, &new).is_none();
    assert!(judge(set(5, "allowed"), set(0, "allowed")));
    assert!(!judge(set(5, "no"), set(0, "no")));
    assert!(!judge(set(5, "allowed"), set(1, "allowed")), "all or none");
}

#[test]
fn policy_is_asked_only_about_what_it_matches() {
    let admission = admission(POLICY).unwrap();
    let (old, new) = (scale(Some(5)), scale(Some(1)));
    let (fleet, other) = (labels("fleet"), labels("other"));
    let request = Request {
        operation: "UPDATE",
        group: "apps",
        version: "v1",
        resource: "statefulsets/scale",
        name: "lamps",
        namespace_labels: &fleet,
        object: &new,
        old_object: &old,
    };
    let is_denied = |request: Request<'_>| admission.judge(&request).unwrap().is_some();
    assert!(is_denied(request.clone()));
    let resource = "statefulsets";
    assert!(is_denied(Request {
        resource,
        ..request.clone()
    }));
    let resource = "statefulsets/status";
    assert!(!is_denied(Request {
        resource,
        ..request.clone()
    }));
    assert!(!is_denied(Request {
        name: "others",
        ..request.clone()
    }));
    assert!(!is_denied(Request {
        operation: "DELETE",
        ..request.clone()
    }));
    assert!(!is_denied(Request {
        group: "batch",
        ..request.clone()
    }));
    let namespace_labels = &other;
    assert!(!is_denied(Request {
        namespace_labels,
        ..request
    }));
}

/// An expression that fails refuses, unless the policy says that failures do not count.
#[test]
fn expression_that_fails_follows_the_failure_policy() {
    let broken = POLICY.replace(
        "variables.parking && variables.wanted == 0",
        "object.nothing > 1",
    );
    let denial = judge(
        &admission(&broken).unwrap(),
        &scale(Some(5)),
        &scale(Some(1)),
    );
    assert!(denial.unwrap().message.contains("object.nothing"));
    let open = broken.replace("failurePolicy: Fail", "failurePolicy: Ignore");
    assert_eq!(
        judge(&admission(&open).unwrap(), &scale(Some(5)), &scale(Some(1))),
        None
    );
}

#[test]
fn what_is_not_modelled_or_wrong_is_refused() {
    let refused = |from, to| format!("{:#}", admission(&POLICY.replace(from, to)).unwrap_err());
    assert!(refused("[Deny]", "[Audit]").contains("Audit"));
    assert!(refused("policyName: lamps", "policyName: other").contains("there is no policy"));
    assert!(refused("variables.wanted >= variables.former\n", "wanted >=\n").contains("wanted >="));
    let conditions = "failurePolicy: Fail\n  matchConditions: [{name: a, expression: 'true'}]";
    assert!(refused("failurePolicy: Fail", conditions).contains("not modelled"));
    let exact = "matchConstraints:\n    matchPolicy: Exact";
    assert!(refused("matchConstraints:", exact).contains("matchPolicy"));
    let message = "messageExpression: \"'a'\"";
    assert!(refused("message: one at a time, please", message).contains("messageExpression"));
}

#[test]
fn stars_in_resources_mean_what_kubernetes_takes_them_for() {
    let meant = |entry: &str| {
        let all = ["pods", "pods/status", "jobs/scale"];
        all.map(|resource| covers(entry, resource))
    };
    assert_eq!(meant("pods"), [true, false, false]);
    assert_eq!(meant("*"), [true, false, false]);
    assert_eq!(meant("pods/status"), [false, true, false]);
    assert_eq!(meant("pods/*"), [false, true, false]);
    assert_eq!(meant("*/scale"), [false, false, true]);
    assert_eq!(meant("*/*"), [true, true, true]);
}
