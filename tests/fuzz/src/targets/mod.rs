//! The targets. Each is a function that takes any bytes, and panics when what must hold does not.

pub mod aws;
pub mod json;
pub mod mqtt;
pub mod planted;
pub(crate) mod rows;
pub mod stored;
pub mod text;
