//! JSON numbers by their text: kept as written, compared by decimal value.

use std::cmp::Ordering;

use crate::limits::{EXPONENT_MAX, NUMBER_BYTES_MAX};

use super::JsonError;

/// A number as it was written. Two numbers are equal when their decimal values are: `1`, `1.0`
/// and `10e-1` are the same number, and nothing is ever rounded.
#[derive(Debug, Clone)]
pub struct Number(Box<str>);

impl Number {
    /// Keeps a text that is a JSON number by grammar, if it is within the limits: at most
    /// 64 characters, exponent within ±400.
    pub fn from_text(text: &str) -> Result<Self, JsonError> {
        if !is_number(text.as_bytes()) {
            return Err(JsonError::Syntax { offset: 0 });
        }
        Self::from_checked(text)
    }

    /// Like [`Number::from_text`] for a text whose grammar the parser has already checked.
    pub(super) fn from_checked(text: &str) -> Result<Self, JsonError> {
        check_range(text.as_bytes())?;
        Ok(Self(Box::from(text)))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value when it is a whole number that fits: `5`, `5.0` and `50e-1` are all 5.
    pub fn as_u64(&self) -> Option<u64> {
        let decimal = Decimal::read(self.0.as_bytes());
        if decimal.is_zero() {
            return Some(0);
        }
        if decimal.negative || decimal.exponent < 0 || decimal.exponent > 20 {
            return None;
        }
        let mut value: u64 = 0;
        for digit in decimal.digits() {
            value = value
                .checked_mul(10)?
                .checked_add(u64::from(digit - b'0'))?;
        }
        for _ in 0..decimal.exponent {
            value = value.checked_mul(10)?;
        }
        Some(value)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        numbers_equal(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for Number {}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self(value.to_string().into_boxed_str())
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self(value.to_string().into_boxed_str())
    }
}

/// Whether two number texts have the same decimal value. Total: on bytes that are no numbers it
/// gives some answer and never panics.
pub(crate) fn numbers_equal(left: &[u8], right: &[u8]) -> bool {
    if left == right {
        return true;
    }
    let (left, right) = (Decimal::read(left), Decimal::read(right));
    if left.is_zero() || right.is_zero() {
        return left.is_zero() && right.is_zero();
    }
    left.negative == right.negative
        && left.exponent == right.exponent
        && left.digits().cmp(right.digits()) == Ordering::Equal
}

/// A number taken apart: `0.digits` without zeros at either end, times ten to the exponent.
struct Decimal<'a> {
    negative: bool,
    /// The written digits with the point among them, no zero at either end.
    mantissa: &'a [u8],
    /// Power of ten of the last digit of the mantissa.
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn read(text: &'a [u8]) -> Self {
        let (negative, rest) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let (mantissa, written) = match rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (&rest[..at], read_exponent(&rest[at + 1..])),
            None => (rest, 0),
        };
        let point = mantissa
            .iter()
            .position(|&byte| byte == b'.')
            .unwrap_or(mantissa.len());
        let is_digit = |byte: &u8| (b'1'..=b'9').contains(byte);
        let Some(first) = mantissa.iter().position(is_digit) else {
            return Self {
                negative: false,
                mantissa: &[],
                exponent: 0,
            };
        };
        let last = mantissa.iter().rposition(is_digit).unwrap_or(first);
        // Digits after the point lower the power of the last digit, zeros before it raise it.
        let shift = if last < point {
            (point - last - 1) as i64
        } else {
            -((last - point) as i64)
        };
        Self {
            negative,
            mantissa: &mantissa[first..=last],
            exponent: written.saturating_add(shift),
        }
    }

    fn is_zero(&self) -> bool {
        self.mantissa.is_empty()
    }

    fn digits(&self) -> impl Iterator<Item = u8> + '_ {
        self.mantissa.iter().copied().filter(u8::is_ascii_digit)
    }
}

fn read_exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let mut value: i64 = 0;
    for digit in digits.iter().filter(|byte| byte.is_ascii_digit()) {
        value = value
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'));
    }
    if negative { -value } else { value }
}

/// Checks length and exponent of a number text.
pub(crate) fn check_range(text: &[u8]) -> Result<(), JsonError> {
    if text.len() > NUMBER_BYTES_MAX {
        return Err(JsonError::NumberTooLong);
    }
    if let Some(at) = text.iter().position(|byte| matches!(byte, b'e' | b'E'))
        && read_exponent(&text[at + 1..]).unsigned_abs() > u64::from(EXPONENT_MAX)
    {
        return Err(JsonError::NumberOutOfRange);
    }
    Ok(())
}

/// Whether the whole text is a number by the grammar of RFC 8259.
pub(crate) fn is_number(text: &[u8]) -> bool {
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count()
    };
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text[at] == b'0') {
        return false;
    }
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects delta and conditions from false differences: value decides, not spelling.
    #[test]
    fn numbers_are_compared_by_decimal_value() {
        let equal = [
            ("1", "1.0"),
            ("1", "10e-1"),
            ("100", "1e2"),
            ("0", "-0.000e7"),
            ("0.1", "1E-1"),
            ("12.50", "1250e-2"),
            ("-3", "-3.000"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890.0",
            ),
            ("1e400", "10e399"),
        ];
        for (left, right) in equal {
            assert!(
                numbers_equal(left.as_bytes(), right.as_bytes()),
                "{left} = {right}"
            );
        }
        let different = [
            ("1", "-1"),
            ("1", "10"),
            ("0.1", "0.01"),
            ("9007199254740993", "9007199254740992"),
            ("1e400", "1e399"),
            ("0", "1e-400"),
        ];
        for (left, right) in different {
            assert!(
                !numbers_equal(left.as_bytes(), right.as_bytes()),
                "{left} != {right}"
            );
        }
    }

    /// Protects the stored size of numbers and the cost of comparing them.
    #[test]
    fn long_numbers_and_wild_exponents_are_refused() {
        assert!(Number::from_text(&"9".repeat(64)).is_ok());
        assert_eq!(
            Number::from_text(&"9".repeat(65)).err(),
            Some(JsonError::NumberTooLong)
        );
        assert!(Number::from_text("1e400").is_ok());
        assert!(Number::from_text("1e-400").is_ok());
        assert_eq!(
            Number::from_text("1e401").err(),
            Some(JsonError::NumberOutOfRange)
        );
        assert_eq!(
            Number::from_text("1e-401").err(),
            Some(JsonError::NumberOutOfRange)
        );
        let huge = "1e99999999999999999999999";
        assert_eq!(
            Number::from_text(huge).err(),
            Some(JsonError::NumberOutOfRange)
        );
        for wrong in [
            "", "-", "01", "1.", ".5", "1e", "+1", "1e+", "NaN", "0x1", "1 ",
        ] {
            assert!(Number::from_text(wrong).is_err(), "{wrong}");
        }
    }

    /// Protects version fields that clients write as `5.0` or `5e0`.
    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let read = |text: &str| Number::from_text(text).unwrap().as_u64();
        assert_eq!(read("5"), Some(5));
        assert_eq!(read("5.0"), Some(5));
        assert_eq!(read("0.5e1"), Some(5));
        assert_eq!(read("5.5"), None);
        assert_eq!(read("-1"), None);
        assert_eq!(read("-0"), Some(0));
        assert_eq!(read("18446744073709551615"), Some(u64::MAX));
        assert_eq!(read("18446744073709551616"), None);
        assert_eq!(read("1e400"), None);
    }
}
