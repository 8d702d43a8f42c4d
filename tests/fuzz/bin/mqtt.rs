//! The target `mqtt` for libFuzzer.

#![no_main]

use fuzz::{guard, targets};

libfuzzer_sys::fuzz_target!(|data: &[u8]| guard::run(
    targets::mqtt::fuzz,
    targets::mqtt::ALLOWANCE,
    data
));
