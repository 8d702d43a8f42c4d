//! The AWS IoT Device Shadow dialect: request documents and response documents as the AWS IoT
//! Developer Guide and captured traffic show them.
//!
//! All times in messages are whole seconds. The order in which a request is checked decides which
//! error a wrong one gets, so it is fixed: JSON, object, `state` present, `clientToken`, `state`
//! object or null, only `desired` and `reported` inside, each object or null, depth and nodes,
//! `version`; only then the shadow itself.

mod request;
mod response;
#[cfg(test)]
mod tests;

pub use self::request::{Refusal, UpdateRequest, parse_client_token, parse_update};
pub use self::response::{
    Echo, accepted, deleted, delta, difference, document, documents, named_shadows, rejected,
    shadow_label,
};
