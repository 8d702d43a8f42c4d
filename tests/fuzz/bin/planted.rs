//! The target `planted` for libFuzzer.

#![no_main]

use fuzz::{guard, targets};

libfuzzer_sys::fuzz_target!(|data: &[u8]| guard::run(
    targets::planted::fuzz,
    targets::planted::ALLOWANCE,
    data
));
