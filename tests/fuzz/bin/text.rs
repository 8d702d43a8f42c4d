//! The target `text` for libFuzzer.

#![no_main]

use fuzz::{guard, targets};

libfuzzer_sys::fuzz_target!(|data: &[u8]| guard::run(
    targets::text::fuzz,
    targets::text::ALLOWANCE,
    data
));
