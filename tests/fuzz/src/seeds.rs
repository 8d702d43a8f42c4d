//! The inputs from which the fuzzer starts: what well-behaved clients and nodes send, and some of what
//! has broken others. `cargo run --example seeds` writes them into `corpus`.

mod aws;
mod json;
mod mqtt;
mod planted;
mod stored;
mod text;

/// One file of a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The directory: for most, the name of the target.
    pub directory: &'static str,
    /// The name of the file.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// All of them.
pub fn all() -> Vec<Seed> {
    [
        aws::seeds(),
        json::seeds(),
        mqtt::seeds(),
        planted::seeds(),
        stored::seeds(),
        text::seeds(),
    ]
    .concat()
}

impl Seed {
    fn new(directory: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Seed {
        Seed {
            directory,
            name: name.into(),
            bytes: bytes.into(),
        }
    }
}

/// Two bytes with the length of `first`, then both.
fn pair(first: &[u8], second: &[u8]) -> Vec<u8> {
    let length = u16::try_from(first.len()).expect("seeds are short");
    [&length.to_be_bytes()[..], first, second].concat()
}
