use super::*;

/// Protects readers from sections that cannot be read: no delta, no panic.
#[test]
fn damaged_sections_have_no_delta() {
    let damaged = [0xff_u8; 40];
    assert_eq!(values(&damaged, &[], &[]), None);
    assert_eq!(values(&[], &damaged, &[]), None);
    assert_eq!(metadata(&damaged, &damaged, TimeUnit::Seconds), None);
    assert!(!is_empty(&damaged, &[]));
}

/// Protects the common case: nothing stored, nothing to tell.
#[test]
fn empty_sections_have_no_delta() {
    assert_eq!(values(&[], &[], &[]), None);
    assert!(is_empty(&[], &[]));
}
