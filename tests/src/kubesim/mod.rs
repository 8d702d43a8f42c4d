//! Plays Kubernetes for what the Helm chart renders.
//!
//! The manifests are read as they are ([`manifest`]); decisions are pure functions of what is wanted
//! and what is seen: of controllers and budgets ([`controller`]), of the API's door ([`admission`]),
//! of probes ([`probe`]), of names ([`dns`]), and of what it takes to run a pod ([`pod`]).
//! `README.md` beside this file says of each behaviour where Kubernetes documents it, and what is not
//! modelled.

pub mod admission;
pub mod controller;
pub mod dns;
pub mod manifest;
pub mod pod;
pub mod probe;
