//! Values that come from the command line, from a file (`@path`) or from standard input (`-`).

use std::io::{self, Read};

use super::problem::{Exit, Problem};

/// Largest input that is read; more than any document or request may have.
const BYTES_MAX: u64 = 8 << 20;

/// The text that an argument stands for. `flag` names it in errors.
pub(crate) fn text(argument: &str, flag: &str) -> Result<String, Problem> {
    let read = match argument.strip_prefix('@') {
        Some(path) => std::fs::File::open(path).and_then(read_bounded),
        None if argument == "-" => read_bounded(io::stdin().lock()),
        None => return Ok(argument.to_owned()),
    };
    read.map_err(|error| {
        Problem::new(
            Exit::Usage,
            format!("cannot read the value of {flag} from `{argument}`"),
        )
        .why(error)
        .try_this(format!(
            "{flag} '{{\"on\":true}}', {flag} @file.json or {flag} -"
        ))
    })
}

fn read_bounded(input: impl Read) -> io::Result<String> {
    let mut text = String::new();
    input.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("it is larger than 8 MiB"));
    }
    Ok(text)
}
