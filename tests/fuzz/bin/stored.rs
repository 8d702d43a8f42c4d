//! The target `stored` for libFuzzer.

#![no_main]

use fuzz::{guard, targets};

libfuzzer_sys::fuzz_target!(|data: &[u8]| guard::run(
    targets::stored::fuzz,
    targets::stored::ALLOWANCE,
    data
));
