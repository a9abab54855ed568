//! `NUMERIC` in PostgreSQL's binary format: digits to the base of 10,000, the weight of the first one, a sign and a
//! display scale.

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};
use bytes::BufMut;

/// Decimal digits of one digit on the wire.
const GROUP: i64 = 4;
const BASE: u32 = 10_000;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;

/// The greatest display scale that the format allows.
const SCALE_MAX: i64 = 0x3fff;

/// Appends a number.
pub fn encode(value: &BigDecimal, out: &mut impl BufMut) {
    let (unscaled, scale) = value.as_bigint_and_exponent();
    // A negative scale means zeros before the point.
    let (unscaled, scale) =
        if scale < 0 { (unscaled * power_of_ten(scale.unsigned_abs()), 0) } else { (unscaled, scale) };
    // Whole groups after the point, so that the point lies between two groups.
    let padding = (GROUP - scale % GROUP) % GROUP;
    let (_, magnitude) = (unscaled * power_of_ten(padding.unsigned_abs())).into_parts();
    let mut groups: Vec<u16> = to_groups(magnitude);
    let mut weight = groups.len() as i64 - 1 - (scale + padding) / GROUP;
    while groups.last() == Some(&0) {
        groups.pop();
    }
    if groups.is_empty() {
        weight = 0;
    }
    out.put_i16(groups.len() as i16);
    out.put_i16(weight as i16);
    out.put_u16(if value.sign() == Sign::Minus { NEGATIVE } else { POSITIVE });
    out.put_u16(scale.min(SCALE_MAX) as u16);
    groups.into_iter().for_each(|group| out.put_u16(group));
}

/// Reads a number. `None` if the bytes are none, and for `NaN` and the infinities, which do not exist here.
pub fn decode(bytes: &[u8]) -> Option<BigDecimal> {
    let (head, digits) = bytes.split_at_checked(8)?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, scale) = (word(0), word(2) as i16, word(4), i64::from(word(6)));
    if digits.len() != usize::from(count) * 2 || !matches!(sign, POSITIVE | NEGATIVE) || scale > SCALE_MAX {
        return None;
    }
    let mut unscaled = BigInt::ZERO;
    for pair in digits.chunks_exact(2) {
        let group = u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        if group >= BASE {
            return None;
        }
        unscaled = unscaled * BASE + group;
    }
    if sign == NEGATIVE {
        unscaled = -unscaled;
    }
    let exponent = GROUP * (i64::from(count) - 1 - i64::from(weight));
    Some(BigDecimal::new(unscaled, exponent).with_scale(scale))
}

/// The digits to the base of 10,000, the most significant first; none for zero.
fn to_groups(magnitude: bigdecimal::num_bigint::BigUint) -> Vec<u16> {
    let text = magnitude.to_str_radix(10);
    if text == "0" {
        return Vec::new();
    }
    let first = (text.len() - 1) % GROUP as usize + 1;
    let (head, tail) = text.as_bytes().split_at(first);
    let group = |digits: &[u8]| digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    std::iter::once(head).chain(tail.chunks(GROUP as usize)).map(group).collect()
}

fn power_of_ten(exponent: u64) -> BigInt {
    BigInt::from(10).pow(u32::try_from(exponent).expect("scales of numbers are limited"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&text.parse().unwrap(), &mut out);
        out
    }

    /// What PostgreSQL 15's `numeric_send` gives.
    #[test]
    fn numbers_are_what_postgresql_sends() {
        assert_eq!(encoded("0"), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encoded("1"), [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(encoded("-1.5"), [0, 2, 0, 0, 0x40, 0, 0, 1, 0, 1, 0x13, 0x88]);
        assert_eq!(encoded("12345678"), [0, 2, 0, 1, 0, 0, 0, 0, 0x04, 0xd2, 0x16, 0x2e]);
        assert_eq!(encoded("10000"), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert_eq!(encoded("0.0001"), [0, 1, 0xff, 0xff, 0, 0, 0, 4, 0, 1]);
        assert_eq!(encoded("0.00"), [0, 0, 0, 0, 0, 0, 0, 2]);
    }

    proptest! {
        #[test]
        fn numbers_come_back_with_their_scale(unscaled in any::<i128>(), scale in 0i64..60) {
            let value = BigDecimal::new(unscaled.into(), scale);
            let mut bytes = Vec::new();
            encode(&value, &mut bytes);
            let back = decode(&bytes).unwrap();
            prop_assert_eq!(back.to_plain_string(), value.to_plain_string());
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn broken_numbers_are_refused() {
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[0, 0, 0, 0, 0xc0, 0, 0, 0]), None, "NaN");
        assert_eq!(decode(&[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10]), None, "a digit of 10,000");
        assert_eq!(decode(&[0, 2, 0, 0, 0, 0, 0, 0, 0, 1]), None, "a digit is missing");
    }
}
