//! The target `json` for libFuzzer.

#![no_main]

use fuzz::{guard, targets};

libfuzzer_sys::fuzz_target!(|data: &[u8]| guard::run(
    targets::json::fuzz,
    targets::json::ALLOWANCE,
    data
));
