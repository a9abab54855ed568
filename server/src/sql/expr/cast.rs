//! Conversions between types, and the modifiers of types.

use bigdecimal::{BigDecimal, ToPrimitive};
use proto::datum::{calendar, decimal};
use proto::{DataType, Datum};

use super::super::error::{Error, Result, state};
use super::arithmetic::out_of_range;

/// Decimal digits that a float is good for.
const FLOAT_DIGITS: usize = 15;

/// Converts a value. That the conversion exists is for the binder to know; an unknown one is an internal error.
///
/// # Errors
/// `22003`, `22P02`, `22001` and their like.
pub fn cast(value: Datum, to: DataType, explicit: bool) -> Result<Datum> {
    let converted = match (value, to.base()) {
        (Datum::Null, _) => return Ok(Datum::Null),
        (value, base) if value.data_type() == base => value,
        (value @ (Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_)), base) => {
            from_int(value.as_int().unwrap_or(0), base)?
        }
        (Datum::Float8(v), base) => from_float(v, base)?,
        (Datum::Numeric(v), base) => from_numeric(&v, base)?,
        (Datum::Bool(v), DataType::Int4) => Datum::Int4(i32::from(v)),
        (Datum::Bool(v), DataType::Text) => Datum::Text(v.to_string()),
        (Datum::Text(text), base) => Datum::parse_text(base, &text)?,
        (Datum::Date(days), DataType::TimestampTz) => Datum::TimestampTz(
            i64::from(days)
                .checked_mul(calendar::MICROS_PER_DAY)
                .filter(|m| (calendar::MICROS_MIN..calendar::MICROS_MAX).contains(m))
                .ok_or_else(|| Error::new(state::DATETIME_OVERFLOW, "date out of range for timestamp"))?,
        ),
        (Datum::TimestampTz(micros), DataType::Date) => {
            let days = micros.div_euclid(calendar::MICROS_PER_DAY);
            Datum::Date(i32::try_from(days).map_err(|_| out_of_range(DataType::Date))?)
        }
        (value, DataType::Text) => Datum::Text(value.to_text().unwrap_or_default()),
        (value, base) => return Err(impossible(value.data_type(), base)),
    };
    apply_modifier(converted, to, explicit)
}

fn impossible(from: DataType, to: DataType) -> Error {
    Error::new(state::CANNOT_COERCE, format!("cannot cast type {} to {}", from.name(), to.name()))
}

fn from_int(value: i64, to: DataType) -> Result<Datum> {
    Ok(match to {
        DataType::Int2 => Datum::Int2(i16::try_from(value).map_err(|_| out_of_range(to))?),
        DataType::Int4 => Datum::Int4(i32::try_from(value).map_err(|_| out_of_range(to))?),
        DataType::Int8 => Datum::Int8(value),
        DataType::Float8 => Datum::Float8(value as f64),
        DataType::Numeric { .. } => Datum::Numeric(BigDecimal::from(value)),
        DataType::Bool => Datum::Bool(value != 0),
        DataType::Text => Datum::Text(value.to_string()),
        _ => return Err(impossible(DataType::Int8, to)),
    })
}

/// To integers rounding halves to the even neighbour, as the processor does.
fn from_float(value: f64, to: DataType) -> Result<Datum> {
    match to {
        DataType::Int2 | DataType::Int4 | DataType::Int8 => {
            let rounded = value.round_ties_even();
            // 2^63 itself is the first float beyond the range.
            let in_range = rounded >= -(2f64.powi(63)) && rounded < 2f64.powi(63);
            if in_range { from_int(rounded as i64, to) } else { Err(out_of_range(to)) }
        }
        DataType::Numeric { .. } => {
            if !value.is_finite() {
                return Err(Error::unsupported(format!("numeric value {value}")));
            }
            let text = format!("{value:.*e}", FLOAT_DIGITS - 1);
            let exact = decimal::parse(&text).flatten().ok_or_else(|| out_of_range(to))?;
            // The digits beyond the significant ones are not part of the number.
            let scale = exact.normalized().as_bigint_and_scale().1.max(0);
            Ok(Datum::Numeric(exact.with_scale(scale)))
        }
        DataType::Text => Ok(Datum::Text(Datum::Float8(value).to_text().unwrap_or_default())),
        _ => Err(impossible(DataType::Float8, to)),
    }
}

fn from_numeric(value: &BigDecimal, to: DataType) -> Result<Datum> {
    match to {
        DataType::Int2 | DataType::Int4 | DataType::Int8 => {
            let rounded = decimal::round(value, 0).to_i64().ok_or_else(|| out_of_range(to))?;
            from_int(rounded, to)
        }
        DataType::Float8 => {
            let mut text = String::new();
            decimal::write(value, &mut text);
            Ok(Datum::parse_text(DataType::Float8, &text)?)
        }
        DataType::Text => Ok(Datum::Text(Datum::Numeric(value.clone()).to_text().unwrap_or_default())),
        _ => Err(impossible(DataType::NUMERIC, to)),
    }
}

/// Applies precision and scale, or a length. What is too long is cut by an explicit cast and otherwise refused, unless
/// only spaces are in excess.
fn apply_modifier(value: Datum, to: DataType, explicit: bool) -> Result<Datum> {
    match (value, to) {
        (Datum::Numeric(v), DataType::Numeric { precision: Some(precision), scale }) => {
            let scale = i64::from(scale.unwrap_or(0));
            let whole_max = i64::from(precision) - scale;
            let rounded = decimal::round(&v, scale);
            let digits = i64::try_from(rounded.digits()).unwrap_or(i64::MAX);
            if !super::numeric::is_zero(&rounded) && digits - scale > whole_max {
                let bound = if whole_max == 0 { "1".to_string() } else { format!("10^{whole_max}") };
                return Err(Error::new(state::OUT_OF_RANGE, "numeric field overflow").detail(format!(
                    "A field with precision {precision}, scale {scale} must round to an absolute value less than \
                     {bound}."
                )));
            }
            Ok(Datum::Numeric(rounded))
        }
        (Datum::Text(text), DataType::Varchar(Some(length))) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((cut, _)) = text.char_indices().nth(length) else { return Ok(Datum::Text(text)) };
            if explicit || text[cut..].bytes().all(|b| b == b' ') {
                return Ok(Datum::Text(text[..cut].to_string()));
            }
            let message = format!("value too long for type character varying({length})");
            Err(Error::new(state::STRING_TOO_LONG, message))
        }
        (value, _) => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Datum, to: DataType) -> String {
        cast(value, to, false).map_or_else(|e| e.message.clone(), |d| d.to_string())
    }

    #[test]
    fn numbers_round_as_in_postgresql() {
        assert_eq!(text(Datum::Float8(2.5), DataType::Int4), "2");
        assert_eq!(text(Datum::Float8(3.5), DataType::Int4), "4");
        assert_eq!(text(Datum::Numeric("2.5".parse().unwrap()), DataType::Int4), "3");
        assert_eq!(text(Datum::Float8(9.3e18), DataType::Int8), "bigint out of range");
        assert_eq!(text(Datum::Float8(0.1), DataType::NUMERIC), "0.1");
        assert_eq!(text(Datum::Float8(1e20), DataType::NUMERIC), "100000000000000000000");
    }

    #[test]
    fn modifiers_are_applied() {
        let money = DataType::Numeric { precision: Some(5), scale: Some(2) };
        assert_eq!(text(Datum::Numeric("1.005".parse().unwrap()), money), "1.01");
        assert_eq!(text(Datum::Int4(1000), money), "numeric field overflow");
        assert_eq!(text(Datum::Text("abc  ".into()), DataType::Varchar(Some(3))), "abc");
        let long = Datum::Text("abcd".into());
        assert!(cast(long.clone(), DataType::Varchar(Some(3)), false).is_err());
        assert_eq!(cast(long, DataType::Varchar(Some(3)), true).unwrap(), Datum::Text("abc".into()));
    }
}
