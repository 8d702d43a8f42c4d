//! Plays Kubernetes for what the Helm chart renders.
//!
//! The manifests are read as they are ([`manifest`], rendered by [`helm`]); decisions are pure
//! functions of what is wanted and what is seen: of controllers and budgets ([`controller`]), of the
//! API's door ([`admission`]), of probes ([`probe`]), of names ([`dns`]), and of what it takes to run
//! a pod ([`pod`]).
//!
//! A [`cluster`] carries them out: a pod is a process with a network, a host name and a file system
//! of its own ([`node`]), made from the files of the [`image`]; it may ask an [`api`] for its
//! StatefulSet. `README.md` beside this file says of each behaviour where Kubernetes documents it,
//! and what is not modelled.

pub mod admission;
pub mod api;
pub mod cluster;
pub mod controller;
pub mod dns;
pub mod helm;
pub mod image;
pub mod manifest;
pub mod node;
pub mod pod;
pub mod probe;
mod service;
pub mod tls;
mod world;
