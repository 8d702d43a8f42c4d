//! The target `aws` for libFuzzer.

#![no_main]

use fuzz::{guard, targets};

libfuzzer_sys::fuzz_target!(|data: &[u8]| guard::run(
    targets::aws::fuzz,
    targets::aws::ALLOWANCE,
    data
));
