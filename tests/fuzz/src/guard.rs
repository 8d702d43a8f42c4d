//! What memory a target may take for one input.
//!
//! A crash is easy to see. What costs a server its life more often is an input of some bytes for
//! which it takes megabytes, or keeps a few for good; both stop the fuzzer here like a crash.

use std::alloc::System;
use std::panic;
use std::sync::Once;

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Memory that an input may cost.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// Whatever the input is.
    pub base_bytes: usize,
    /// For each byte of it.
    pub per_byte: usize,
}

/// Runs a target on an input. An allocation beyond the allowance ends the process, and so does
/// memory that is still taken when the target has returned, unless it is the first time only.
pub fn run(target: fn(&[u8]), allowance: Allowance, data: &[u8]) {
    static PREPARED: Once = Once::new();
    PREPARED.call_once(lift_for_panics);
    let before = ALLOCATOR.allocated();
    let bytes_max = allowance.base_bytes + allowance.per_byte * data.len();
    ALLOCATOR
        .set_limit(before + bytes_max)
        .expect("the limit is above what is taken");
    target(data);
    lift();
    if ALLOCATOR.allocated() > before {
        // Something was set up for good, or something leaks: twice more tells.
        let settled = ALLOCATOR.allocated();
        target(data);
        target(data);
        let kept = ALLOCATOR.allocated().saturating_sub(settled);
        assert!(kept == 0, "{kept} bytes are still taken after the input");
    }
}

fn lift() {
    ALLOCATOR
        .set_limit(usize::MAX)
        .expect("everything is below the largest number");
}

/// A panic that cannot be printed for want of memory would look like something else.
fn lift_for_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |what| {
        lift();
        print(what);
    }));
}
