//! Bugs planted on purpose behind the parser of names, by which the runner proves that a fuzzer that
//! finds nothing would have found something.

use std::hint::black_box;

use antumbra_shadow::DeviceId;

use crate::guard::Allowance;

/// Little: one of the bugs takes more.
pub const ALLOWANCE: Allowance = super::text::ALLOWANCE;

/// Gives what is the name of a device to [`trap`].
pub fn fuzz(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(device) = DeviceId::parse(text)
    {
        trap(device.as_str().as_bytes());
    }
}

/// The last bug takes two steps of four bytes. Who compares what the code compares finds the first, and
/// who sees which code was reached keeps it for the second; to guess both takes 2^64 attempts.
fn trap(name: &[u8]) {
    match name {
        b"keep-what-was-taken-for-good" => return std::mem::forget(black_box(vec![0_u8; 100])),
        b"take-more-than-is-allowed-for-it" => return drop(black_box(vec![1_u8; 8 << 20])),
        b"wait-until-nobody-is-interested" => loop {
            black_box(());
        },
        _ => {}
    }
    // All of it or nothing: what the fuzzer shortens would lose the place of the second step.
    let Some(&[a, b, c, d, e, f, g, h]) = name.first_chunk::<8>() else {
        return;
    };
    if black_box(u32::from_be_bytes([a, b, c, d])) != u32::from_be_bytes(*b"umbr") {
        return;
    }
    if black_box(u32::from_be_bytes([e, f, g, h])) == u32::from_be_bytes(*b"9x-Q") {
        panic!("the planted bug was found");
    }
}
