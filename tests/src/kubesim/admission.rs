//! Whether the API lets a change through: the `ValidatingAdmissionPolicy`s of the chart, with their
//! expressions as they are rendered.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use cel::{Context, Program, Value};
use k8s_openapi::api::admissionregistration::v1::{
    MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec,
};
use serde_json::Value as Json;

use super::manifest::{self, Labels};

/// A request to change an object.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub operation: &'a str,
    /// Group of the resource, such as `apps`.
    pub group: &'a str,
    /// Version of the resource.
    pub version: &'a str,
    /// The resource, with its subresource if that is meant: `statefulsets/scale`.
    pub resource: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// Labels of its namespace.
    pub namespace_labels: &'a Labels,
    /// The object as it would be.
    pub object: &'a Json,
    /// The object as it is.
    pub old_object: &'a Json,
}

/// Why the API refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The policy that does.
    pub policy: String,
    /// What it says.
    pub message: String,
}

/// All policies, each with its binding.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    policy: ValidatingAdmissionPolicySpec,
    binding: ValidatingAdmissionPolicyBindingSpec,
}

impl Admission {
    /// Reads policies and bindings. Refuses what is not modelled, and expressions that do not parse.
    pub fn read(
        policies: &[ValidatingAdmissionPolicy],
        bindings: &[ValidatingAdmissionPolicyBinding],
    ) -> Result<Admission> {
        let mut rules = Vec::new();
        for binding in bindings {
            let spec = binding.spec.clone().context("a binding has a spec")?;
            let wanted = spec.policy_name.as_deref().unwrap_or_default();
            let found = policies
                .iter()
                .find(|policy| manifest::name(&policy.metadata) == wanted);
            let policy = found.with_context(|| format!("there is no policy {wanted}"))?;
            let policy = policy.spec.clone().context("a policy has a spec")?;
            check(&policy, &spec).context(wanted.to_owned())?;
            rules.push(Rule {
                name: wanted.to_owned(),
                policy,
                binding: spec,
            });
        }
        Ok(Admission { rules })
    }

    /// Whether a request passes; the first denial otherwise.
    pub fn judge(&self, request: &Request<'_>) -> Result<Option<Denial>> {
        for rule in &self.rules {
            if !rule.matches(request)? {
                continue;
            }
            if let Some(message) = rule.refusal(request) {
                return Ok(Some(Denial {
                    policy: rule.name.clone(),
                    message,
                }));
            }
        }
        Ok(None)
    }
}

impl Rule {
    fn matches(&self, request: &Request<'_>) -> Result<bool> {
        let constraints = [
            &self.policy.match_constraints,
            &self.binding.match_resources,
        ];
        for constraint in constraints.into_iter().flatten() {
            if let Some(selector) = &constraint.namespace_selector
                && !manifest::selects(selector, request.namespace_labels)?
            {
                return Ok(false);
            }
            let mut rules = constraint.resource_rules.iter().flatten().peekable();
            if rules.peek().is_some() && !rules.any(|rule| takes(rule, request)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Why the policy refuses, if it does.
    fn refusal(&self, request: &Request<'_>) -> Option<String> {
        let fails_open = self.policy.failure_policy.as_deref() == Some("Ignore");
        let mut context = Context::default();
        context.add_variable_from_value("object", value(request.object));
        context.add_variable_from_value("oldObject", value(request.old_object));
        let mut variables: HashMap<String, Value> = HashMap::new();
        for variable in self.policy.variables.iter().flatten() {
            context.add_variable_from_value("variables", Value::from(variables.clone()));
            // What cannot be evaluated is missing, which matters to whoever uses it.
            if let Ok(value) = evaluate(&variable.expression, &context) {
                variables.insert(variable.name.clone(), value);
            }
        }
        context.add_variable_from_value("variables", Value::from(variables));
        for validation in self.policy.validations.iter().flatten() {
            let expression = &validation.expression;
            match evaluate(expression, &context) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => {
                    let failed = || format!("failed expression: {}", expression.trim());
                    return Some(validation.message.clone().unwrap_or_else(failed));
                }
                Ok(_) | Err(_) if fails_open => {}
                Ok(other) => return Some(format!("{expression} gives {other:?}")),
                Err(error) => return Some(format!("{expression}: {error:#}")),
            }
        }
        None
    }
}

/// Refuses what is not modelled.
fn check(
    policy: &ValidatingAdmissionPolicySpec,
    binding: &ValidatingAdmissionPolicyBindingSpec,
) -> Result<()> {
    ensure!(
        policy.param_kind.is_none()
            && binding.param_ref.is_none()
            && policy.match_conditions.is_none()
            && policy.audit_annotations.is_none(),
        "parameters, conditions and audit annotations of policies are not modelled"
    );
    let actions = binding.validation_actions.clone().unwrap_or_default();
    ensure!(
        actions == ["Deny"],
        "the actions {actions:?} of a binding are not modelled"
    );
    let constraints = [&policy.match_constraints, &binding.match_resources];
    for constraint in constraints.into_iter().flatten() {
        let MatchResources {
            exclude_resource_rules,
            match_policy,
            object_selector,
            namespace_selector: _,
            resource_rules: _,
        } = constraint;
        ensure!(
            exclude_resource_rules.is_none() && object_selector.is_none() && match_policy.is_none(),
            "excludeResourceRules, objectSelector and matchPolicy are not modelled"
        );
    }
    let validations = policy.validations.iter().flatten();
    if validations.clone().next().is_none() {
        bail!("a policy without validations refuses nothing");
    }
    ensure!(
        validations
            .clone()
            .all(|one| one.message_expression.is_none()),
        "messageExpression is not modelled"
    );
    let variables = policy.variables.iter().flatten();
    let expressions = validations
        .map(|validation| &validation.expression)
        .chain(variables.map(|variable| &variable.expression));
    for expression in expressions {
        compile(expression)?;
    }
    Ok(())
}

fn takes(rule: &NamedRuleWithOperations, request: &Request<'_>) -> bool {
    let holds = |list: &Option<Vec<String>>, wanted: &str| {
        let mut entries = list.iter().flatten();
        entries.any(|entry| entry == "*" || entry == wanted)
    };
    let names = rule.resource_names.as_ref();
    let is_named =
        names.is_none_or(|names| names.is_empty() || names.iter().any(|name| name == request.name));
    holds(&rule.operations, request.operation)
        && holds(&rule.api_groups, request.group)
        && holds(&rule.api_versions, request.version)
        && rule
            .resources
            .iter()
            .flatten()
            .any(|entry| covers(entry, request.resource))
        && is_named
}

/// Whether an entry of `resources` means a resource: `*` means all but subresources, `*/*` these too, `a/*` the
/// subresources of one, and `*/a` one subresource of all.
fn covers(entry: &str, resource: &str) -> bool {
    match (entry.split_once('/'), resource.split_once('/')) {
        (None, None) => entry == "*" || entry == resource,
        (None, Some(_)) => false,
        (Some(entry), None) => entry == ("*", "*"),
        (Some((of, what)), Some((owner, sub))) => {
            (of == "*" || of == owner) && (what == "*" || what == sub)
        }
    }
}

fn compile(expression: &str) -> Result<Program> {
    Program::compile(expression).map_err(|error| anyhow::anyhow!("{expression}: {error}"))
}

fn evaluate(expression: &str, context: &Context<'_, '_>) -> Result<Value> {
    let program = compile(expression)?;
    let result = program.execute(context);
    result.map_err(|error| anyhow::anyhow!("{error}"))
}

/// JSON as expressions see it. Whole numbers are `int`, as in the schemas of Kubernetes; the crate's
/// own conversion makes those that are not negative `uint`, which do not compare with `int`.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(is) => Value::Bool(*is),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        Json::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, field)| (name.clone(), value(field)));
            Value::from(fields.collect::<HashMap<String, Value>>())
        }
    }
}

#[cfg(test)]
mod tests;
