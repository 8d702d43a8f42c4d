//! What the shadow domain promises, seen from outside.
#![allow(clippy::unwrap_used)]

mod aws;
mod batch;
mod conditions;
mod limits;
mod model;
mod random;
mod requests;
mod support;
mod totality;
mod twins;
mod versions;
