//! Topics, filters and messages of the AWS dialect, and the answers to them.

use antumbra_shadow::apply::apply;
use antumbra_shadow::json::{self, DuplicateKeys, Value};
use antumbra_shadow::{
    Conditions, DeviceEntry, DeviceId, DeviceKey, Draft, Kind, Limits, Outcome, Position,
    ShadowName, Tenant, Time, Update,
};

use super::rows::{Damaged, OneRow};
use crate::dialect::aws::{self, UpdateRequest};
use crate::error::Error;
use crate::gateway::dialect;
use crate::guard::Allowance;

/// A tree of a message, the change made of it, the documents, and the texts of the answers.
pub const ALLOWANCE: Allowance = Allowance {
    base_bytes: 256 * 1024,
    per_byte: 512,
};

const NOW: Time = Time(1_700_000_000_123);

/// Gives the bytes to the dialect as a connection and a message; what is a request by itself is then
/// carried out on an empty store, and every text that says so must be JSON.
pub fn fuzz(data: &[u8]) {
    dialect::aws::fuzz(data);
    let Some((&[_, high, low], rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let topic_bytes = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
    let payload = &rest[topic_bytes..];
    let limits = Limits::default();
    if let Err(refusal) = aws::parse_client_token(payload, &limits) {
        check_refused(&refusal.error, refusal.client_token.as_deref());
    }
    match aws::parse_update(payload, &limits) {
        Ok(request) => update(request),
        Err(refusal) => check_refused(&refusal.error, refusal.client_token.as_deref()),
    }
}

fn update(request: UpdateRequest) {
    let device = DeviceKey::new(
        Tenant::default(),
        DeviceId::parse("pump").expect("is a name"),
    );
    let conditions: Conditions = request.conditions();
    let kind = Kind::Update(Update {
        shadow: ShadowName::classic(),
        patch: request.patch.clone(),
        conditions,
    });
    let mut draft = Draft::new("fuzz", kind);
    draft.client_token.clone_from(&request.client_token);
    let entry = DeviceEntry::new(device, vec![draft.stamp(NOW)]);
    let applied = match apply(&mut OneRow::default(), Position::first(1), &entry) {
        Ok(applied) => applied,
        Err(Damaged) => panic!("an empty store is not damaged"),
    };
    let [applied] = &applied[..] else {
        panic!("one command has one outcome");
    };
    match &applied.outcome {
        Outcome::Rejected(rejection) => {
            let error = Error::from(rejection.clone());
            check_refused(&error, request.client_token.as_deref());
        }
        Outcome::Accepted(_) => {
            check_json(&aws::accepted(request.echo(), 1, NOW));
            let token = request.client_token.as_deref();
            for change in &applied.changes {
                check_json(&aws::document(&change.current, NOW, token));
                let others = [aws::delta(change), aws::documents(change)];
                others.iter().flatten().for_each(|text| check_json(text));
            }
        }
    }
}

fn check_refused(error: &Error, client_token: Option<&str>) {
    check_json(&aws::rejected(error, "pump", NOW, client_token));
}

fn check_json(text: &str) {
    let parsed = json::parse(
        text.as_bytes(),
        DuplicateKeys::Reject,
        json::NESTING_CEILING,
    );
    assert!(
        matches!(parsed, Ok(Value::Object(_))),
        "an answer is a JSON object: {parsed:?}: {text}"
    );
}
