//! The harness of the system tests: real processes of the node, real clients, and checkers that
//! say whether what the clients were told is true.
//!
//! - [`node`] starts, kills and restarts the binary; [`disk`] gives it a disk whose power can be cut.
//! - [`client`], [`http`] and [`python`] talk to it as users do; [`admin`] makes tenants.
//! - [`kubernetes`] plays the API of Kubernetes, as far as a node asks it.
//! - [`kubesim`] plays Kubernetes for the Helm chart.
//! - [`load`] writes and remembers every acknowledgement; [`checker`] judges the memory against what
//!   the node shows afterwards. The checkers know nothing of the node and are tested on wrong
//!   histories of their own.
//!
//! Every wait here has a deadline, and every process started is killed when its handle is dropped.

#![forbid(unsafe_code)]

pub mod admin;
pub mod chaos;
pub mod checker;
pub mod client;
pub mod compare;
pub mod disk;
pub mod environment;
pub mod files;
pub mod http;
pub mod kubernetes;
pub mod kubesim;
pub mod load;
pub mod mqtt;
pub mod node;
pub mod python;
pub mod waiting;
