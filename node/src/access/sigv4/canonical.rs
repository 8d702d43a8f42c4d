//! The canonical form of a request: the text whose hash is signed.

use antumbra_shadow::Time;
use aws_lc_rs::digest;

use super::{Denied, SignedRequest};
use crate::access::hexadecimal;

/// The longest path or query, in bytes.
const TARGET_BYTES_MAX: usize = 8 * 1024;
const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Whether the query holds a signature.
pub(super) fn is_presigned(query: &str) -> bool {
    let names = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or(pair, |pair| pair.0));
    let mut decoded = names.filter_map(decode);
    decoded.any(|name| {
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        is(b"x-amz-signature") || is(b"x-amz-algorithm") || is(b"x-amz-credential")
    })
}

/// The canonical request.
pub(super) fn request(request: &SignedRequest<'_>, signed: &[&str]) -> Result<String, Denied> {
    if request.path.len() > TARGET_BYTES_MAX || request.query.len() > TARGET_BYTES_MAX {
        return Err(Denied::TooLarge);
    }
    // Whatever begins so means something to the server, so nobody may add it on the way.
    let unsigned = |name: &str| {
        let name = name.to_ascii_lowercase();
        name.starts_with("x-amz-") && !signed.contains(&&*name)
    };
    if request.headers.iter().any(|(name, _)| unsigned(name)) {
        return Err(Denied::Malformed("too few headers are signed"));
    }
    let body = hexadecimal::encode(&request.body_hash);
    if request
        .header("x-amz-content-sha256")
        .any(|value| value != body.as_bytes())
    {
        return Err(Denied::Wrong);
    }
    let mut text = format!(
        "{}\n{}\n{}\n",
        request.method,
        path(request.path)?,
        query(request.query)?
    );
    for name in signed {
        text.push_str(name);
        text.push(':');
        text.push_str(&header(request, name)?);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&signed.join(";"));
    text.push('\n');
    text.push_str(&body);
    Ok(text)
}

/// Every service but S3 encodes the path once more. Segments that say nothing or point upwards are
/// dropped by signers and kept by routers: refused, since no path of ours has them.
fn path(path: &str) -> Result<String, Denied> {
    let bad = Denied::Malformed("the path");
    let segments = path.strip_prefix('/').ok_or(bad)?;
    let empty = |segment: &str| matches!(segment, "" | "." | "..");
    if !segments.is_empty() && segments.split('/').any(empty) {
        return Err(bad);
    }
    let mut text = String::with_capacity(path.len() + 16);
    encode(path.as_bytes(), b"/", &mut text);
    Ok(text)
}

/// Parameters in the order of their encoded names and values.
fn query(query: &str) -> Result<String, Denied> {
    if query.is_empty() {
        return Ok(String::new());
    }
    let again = |part: &str| {
        let bytes = decode(part).ok_or(Denied::Malformed("the query"))?;
        let mut text = String::with_capacity(part.len());
        encode(&bytes, b"", &mut text);
        Ok::<_, Denied>(text)
    };
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((again(name)?, again(value)?));
    }
    pairs.sort();
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok(pairs.join("&"))
}

/// The values of a header, with every run of blanks as one space.
fn header(request: &SignedRequest<'_>, name: &str) -> Result<String, Denied> {
    let mut values = Vec::new();
    for value in request.header(name) {
        let value = std::str::from_utf8(value)
            .map_err(|_| Denied::Malformed("a signed header is not text"))?;
        values.push(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    }
    if values.is_empty() {
        return Err(Denied::Malformed("a header of the signature is missing"));
    }
    Ok(values.join(","))
}

fn encode(bytes: &[u8], safe: &[u8], text: &mut String) {
    for &byte in bytes {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || safe.contains(&byte) {
            text.push(char::from(byte));
        } else {
            let digits = [byte >> 4, byte & 0x0f].map(|digit| DIGITS[usize::from(digit)]);
            text.push('%');
            text.extend(digits.map(char::from));
        }
    }
}

/// The bytes of a percent-encoded text.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push((high << 4 | low) as u8);
    }
    Some(bytes)
}

/// The moment of a text `20261129T024500Z`.
pub(super) fn time(stamp: &str) -> Option<Time> {
    let bytes: &[u8; 16] = stamp.as_bytes().try_into().ok()?;
    if bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0_u64, |number, &byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            Some(number * 10 + digit)
        })
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let good = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !good {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Time(seconds * 1_000))
}

/// Days since the Unix epoch: the years are taken to begin in March, so that the leap day is the
/// last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719,468 days lie between the first of March of the year 0 and the epoch.
    (year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1).saturating_sub(719_468)
}
