//! Exact arithmetic with PostgreSQL's result scales.

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};
use proto::datum::decimal;

use super::super::error::{Error, Result, state};

/// Digits that a quotient has at least.
const SIGNIFICANT_DIGITS_MIN: i64 = 16;
/// Decimal digits in one digit of PostgreSQL's own representation, which its rule for quotients shows through.
const GROUP_DIGITS: i64 = 4;
/// The scale that a quotient has at most.
const QUOTIENT_SCALE_MAX: i64 = 1000;

/// Brings a result into range.
///
/// # Errors
/// `22003` when it has too many digits.
pub fn checked(value: BigDecimal) -> Result<BigDecimal> {
    decimal::normalize(value).ok_or_else(|| Error::new(state::OUT_OF_RANGE, "value overflows numeric format"))
}

fn scale(value: &BigDecimal) -> i64 {
    value.as_bigint_and_scale().1
}

pub fn is_zero(value: &BigDecimal) -> bool {
    value.sign() == Sign::NoSign
}

pub fn division_by_zero() -> Error {
    Error::new(state::DIVISION_BY_ZERO, "division by zero")
}

/// The weight of the leading group of four digits, and that group's value.
fn leading_group(value: &BigDecimal) -> (i64, u32) {
    let (digits, scale) = value.as_bigint_and_scale();
    if digits.sign() == Sign::NoSign {
        return (0, 0);
    }
    let text = digits.magnitude().to_string();
    let exponent = i64::try_from(text.len()).unwrap_or(i64::MAX) - 1 - scale;
    let weight = exponent.div_euclid(GROUP_DIGITS);
    let width = usize::try_from(exponent - weight * GROUP_DIGITS + 1).unwrap_or(1);
    let padded: String = text.chars().chain(std::iter::repeat('0')).take(width).collect();
    (weight, padded.parse().unwrap_or(0))
}

/// The scale of a quotient: at least as many significant digits as a float has, and no less than either operand.
///
/// Source: `select_div_scale` in PostgreSQL's `numeric.c`.
fn quotient_scale(a: &BigDecimal, b: &BigDecimal) -> i64 {
    let ((weight_a, first_a), (weight_b, first_b)) = (leading_group(a), leading_group(b));
    let weight = weight_a - weight_b - i64::from(first_a <= first_b);
    let wanted = SIGNIFICANT_DIGITS_MIN - weight * GROUP_DIGITS;
    wanted.max(scale(a)).max(scale(b)).clamp(0, QUOTIENT_SCALE_MAX)
}

/// `a / b`, rounded half away from zero.
///
/// # Errors
/// `22012`, `22003`.
pub fn divide(a: &BigDecimal, b: &BigDecimal) -> Result<BigDecimal> {
    if is_zero(b) {
        return Err(division_by_zero());
    }
    let result_scale = quotient_scale(a, b);
    let ((a, scale_a), (b, scale_b)) = (a.as_bigint_and_scale(), b.as_bigint_and_scale());
    // Brought to integers, with one digit more than the result to round by.
    let shift = result_scale + 1 + scale_b - scale_a;
    let (mut numerator, mut denominator) = (a.into_owned(), b.into_owned());
    let power = power_of_ten(shift.unsigned_abs());
    if shift >= 0 {
        numerator *= power;
    } else {
        denominator *= power;
    }
    let quotient = BigDecimal::new(numerator / denominator, result_scale + 1);
    checked(decimal::round(&quotient, result_scale))
}

fn power_of_ten(exponent: u64) -> BigInt {
    BigInt::from(10u8).pow(u32::try_from(exponent).unwrap_or(u32::MAX))
}

/// The remainder, with the sign of `a`.
///
/// # Errors
/// `22012`.
pub fn modulo(a: &BigDecimal, b: &BigDecimal) -> Result<BigDecimal> {
    if is_zero(b) {
        return Err(division_by_zero());
    }
    let common = scale(a).max(scale(b));
    let unscaled = |v: &BigDecimal| v.with_scale(common).into_bigint_and_scale().0;
    Ok(BigDecimal::new(unscaled(a) % unscaled(b), common))
}

/// `a * b`; the scale is the sum of theirs.
///
/// # Errors
/// `22003`.
pub fn multiply(a: &BigDecimal, b: &BigDecimal) -> Result<BigDecimal> {
    // Not the library's own `*`: a factor of one makes it forget the other's scale.
    let ((a, a_scale), (b, b_scale)) = (a.as_bigint_and_exponent(), b.as_bigint_and_exponent());
    checked(BigDecimal::new(a * b, a_scale + b_scale))
}

/// `round(value, digits)`; negative digits round before the point.
pub fn round_to(value: &BigDecimal, digits: i32) -> BigDecimal {
    let digits = i64::from(digits).clamp(-decimal::INTEGER_DIGITS_MAX, decimal::SCALE_MAX);
    let rounded = decimal::round(value, digits);
    if digits < 0 { rounded.with_scale(0) } else { rounded }
}

/// `trunc(value, digits)`.
pub fn truncate_to(value: &BigDecimal, digits: i32) -> BigDecimal {
    let digits = i64::from(digits).clamp(-decimal::INTEGER_DIGITS_MAX, decimal::SCALE_MAX);
    let cut = value.with_scale_round(digits, bigdecimal::RoundingMode::Down);
    if digits < 0 { cut.with_scale(0) } else { cut }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> BigDecimal {
        decimal::parse(text).unwrap().unwrap()
    }

    fn text(value: &BigDecimal) -> String {
        let mut out = String::new();
        decimal::write(value, &mut out);
        out
    }

    fn quotient(a: &str, b: &str) -> String {
        text(&divide(&number(a), &number(b)).unwrap())
    }

    #[test]
    fn quotients_have_postgresqls_scale() {
        assert_eq!(quotient("1", "3"), "0.33333333333333333333");
        assert_eq!(quotient("10", "4"), "2.5000000000000000");
        assert_eq!(quotient("3", "2"), "1.5000000000000000");
        assert_eq!(quotient("1", "7"), "0.14285714285714285714");
        assert_eq!(quotient("100000", "3"), "33333.333333333333");
        assert_eq!(quotient("-2", "3"), "-0.66666666666666666667");
        assert_eq!(quotient("1", "100000000"), "0.0000000100000000000000000000");
    }

    #[test]
    fn products_keep_the_scale_of_both_factors() {
        let product = |a, b| text(&multiply(&number(a), &number(b)).unwrap());
        assert_eq!(product("5.00", "1"), "5.00");
        assert_eq!(product("1.0", "5.00"), "5.000");
        assert_eq!(product("0.00", "5"), "0.00");
        assert_eq!(product("1.5", "-2.25"), "-3.375");
    }

    #[test]
    fn the_remainder_has_the_sign_of_the_dividend() {
        assert_eq!(text(&modulo(&number("-7.5"), &number("2")).unwrap()), "-1.5");
        assert!(modulo(&number("1"), &number("0.0")).is_err());
    }

    #[test]
    fn rounding_goes_away_from_zero() {
        assert_eq!(text(&round_to(&number("2.345"), 2)), "2.35");
        assert_eq!(text(&round_to(&number("-2.5"), 0)), "-3");
        assert_eq!(text(&round_to(&number("1250"), -2)), "1300");
        assert_eq!(text(&truncate_to(&number("-2.99"), 1)), "-2.9");
    }
}
