//! Exact numbers: the limits of `NUMERIC`, its text, and its encoding.

use bigdecimal::num_bigint::{BigInt, Sign};
use bigdecimal::{BigDecimal, RoundingMode};

/// PostgreSQL's limit on digits before the decimal point.
pub const INTEGER_DIGITS_MAX: i64 = 131_072;
/// PostgreSQL's limit on digits after the decimal point.
pub const SCALE_MAX: i64 = 16_383;

/// Reads a decimal number: an optional sign, digits with an optional point, an optional exponent.
///
/// `None` if the text is not a number; `Some(None)` if it is one beyond the limits.
pub fn parse(text: &str) -> Option<Option<BigDecimal>> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let exponent = match exponent {
        None => 0,
        Some(digits) => {
            let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if bare.is_empty() || !all_digits(bare) {
                return None;
            }
            match digits.parse::<i64>() {
                Ok(e) if e.abs() <= INTEGER_DIGITS_MAX => e,
                _ => return Some(None),
            }
        }
    };
    let scale = i64::try_from(fraction.len()).ok()? - exponent;
    let mut digits = BigInt::parse_bytes(format!("{whole}{fraction}").as_bytes(), 10)?;
    if mantissa.starts_with('-') {
        digits = -digits;
    }
    Some(normalize(BigDecimal::new(digits, scale)))
}

/// Brings a computed number into the form that a `Datum` holds: a scale from 0 to [`SCALE_MAX`], rounding what is
/// beyond; `None` when it has too many digits before the point.
pub fn normalize(value: BigDecimal) -> Option<BigDecimal> {
    let (_, scale) = value.as_bigint_and_scale();
    let whole = i64::try_from(value.digits()).ok()?.saturating_sub(scale);
    if whole > INTEGER_DIGITS_MAX && value.sign() != Sign::NoSign {
        return None;
    }
    if scale < 0 {
        return Some(value.with_scale(0));
    }
    if scale > SCALE_MAX {
        return Some(round(&value, SCALE_MAX));
    }
    Some(value)
}

/// Rounds to a scale, half away from zero.
pub fn round(value: &BigDecimal, scale: i64) -> BigDecimal {
    value.with_scale_round(scale, RoundingMode::HalfUp)
}

/// Writes all digits, as many after the point as the scale says.
pub fn write(value: &BigDecimal, out: &mut String) {
    let (digits, scale) = value.as_bigint_and_scale();
    let text = digits.magnitude().to_string();
    if digits.sign() == Sign::Minus {
        out.push('-');
    }
    let scale = usize::try_from(scale).unwrap_or(0);
    if scale == 0 {
        out.push_str(&text);
    } else if text.len() > scale {
        out.push_str(&text[..text.len() - scale]);
        out.push('.');
        out.push_str(&text[text.len() - scale..]);
    } else {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', scale - text.len()));
        out.push_str(&text);
    }
}

/// CBOR: an array of the scale and the unscaled number as two's complement bytes, or as an integer where it fits.
pub fn encode<C, W: minicbor::encode::Write>(
    value: &BigDecimal,
    e: &mut minicbor::Encoder<W>,
    _: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    let (digits, scale) = value.as_bigint_and_scale();
    e.array(2)?.i64(scale)?;
    match i64::try_from(digits.as_ref()) {
        Ok(small) => e.i64(small)?.ok(),
        Err(_) => e.bytes(&digits.to_signed_bytes_be())?.ok(),
    }
}

/// The reverse of [`encode`].
pub fn decode<'b, C>(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<BigDecimal, minicbor::decode::Error> {
    if d.array()? != Some(2) {
        return Err(minicbor::decode::Error::message("a decimal is a scale and a number"));
    }
    let scale = d.i64()?;
    if !(0..=SCALE_MAX).contains(&scale) {
        return Err(minicbor::decode::Error::message("a decimal's scale is out of range"));
    }
    let digits = match d.datatype()? {
        minicbor::data::Type::Bytes => BigInt::from_signed_bytes_be(d.bytes()?),
        _ => BigInt::from(d.i64()?),
    };
    Ok(BigDecimal::new(digits, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let mut out = String::new();
        write(&parse(text).unwrap().unwrap(), &mut out);
        out
    }

    #[test]
    fn the_scale_is_what_was_written() {
        assert_eq!(read("1.00"), "1.00");
        assert_eq!(read("-.5"), "-0.5");
        assert_eq!(read("1e3"), "1000");
        assert_eq!(read("12.5e-2"), "0.125");
        assert_eq!(read("0e10"), "0");
    }

    #[test]
    fn nonsense_and_giants_are_told_apart() {
        assert_eq!(parse("1.2.3"), None);
        assert_eq!(parse("e5"), None);
        assert_eq!(parse("1e"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("1e999999999999"), Some(None));
    }
}
