//! Arithmetic on values of one type, checked for overflow.

use proto::datum::calendar;
use proto::{DataType, Datum};

use super::super::error::{Error, Result, state};
use super::{Arithmetic, numeric};

/// `22003` for a type.
pub fn out_of_range(data_type: DataType) -> Error {
    Error::new(state::OUT_OF_RANGE, format!("{} out of range", data_type.name()))
}

/// Applies an operator; NULL in, NULL out.
///
/// # Errors
/// `22003`, `22012`, `22008`.
pub fn apply(op: Arithmetic, left: &Datum, right: &Datum) -> Result<Datum> {
    match (left, right) {
        (Datum::Null, _) | (_, Datum::Null) => Ok(Datum::Null),
        (Datum::Int8(a), Datum::Int8(b)) => integer(op, *a, *b, DataType::Int8).map(Datum::Int8),
        (Datum::Int4(a), Datum::Int4(b)) => {
            let wide = integer(op, i64::from(*a), i64::from(*b), DataType::Int4)?;
            i32::try_from(wide).map(Datum::Int4).map_err(|_| out_of_range(DataType::Int4))
        }
        (Datum::Int2(a), Datum::Int2(b)) => {
            let wide = integer(op, i64::from(*a), i64::from(*b), DataType::Int2)?;
            i16::try_from(wide).map(Datum::Int2).map_err(|_| out_of_range(DataType::Int2))
        }
        (Datum::Numeric(a), Datum::Numeric(b)) => exact(op, a, b).map(Datum::Numeric),
        (Datum::Float8(a), Datum::Float8(b)) => float(op, *a, *b).map(Datum::Float8),
        (Datum::Date(a), Datum::Date(b)) => Ok(Datum::Int4(a.saturating_sub(*b))),
        (Datum::Date(day), Datum::Int4(days)) => move_date(op, *day, *days),
        (Datum::Int4(days), Datum::Date(day)) => move_date(op, *day, *days),
        _ => Err(Error::new(state::INTERNAL, format!("operands of {} differ in type", op.symbol()))),
    }
}

fn move_date(op: Arithmetic, day: i32, days: i32) -> Result<Datum> {
    let moved = if op == Arithmetic::Subtract { day.checked_sub(days) } else { day.checked_add(days) };
    moved
        .filter(|d| (calendar::DAYS_MIN..calendar::DAYS_MAX).contains(d))
        .map(Datum::Date)
        .ok_or_else(|| Error::new(state::DATETIME_OVERFLOW, "date out of range"))
}

/// Integers of all widths, computed wide; the caller narrows. Shifts wrap their distance at the type's width.
fn integer(op: Arithmetic, a: i64, b: i64, data_type: DataType) -> Result<i64> {
    let bits = match data_type {
        DataType::Int2 | DataType::Int4 => 32,
        _ => 64,
    };
    let distance = u32::try_from(b.rem_euclid(bits)).unwrap_or(0);
    let result = match op {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Divide | Arithmetic::Modulo if b == 0 => return Err(numeric::division_by_zero()),
        Arithmetic::Divide => a.checked_div(b),
        Arithmetic::Modulo => Some(a.wrapping_rem(b)),
        Arithmetic::BitAnd => Some(a & b),
        Arithmetic::BitOr => Some(a | b),
        Arithmetic::BitXor => Some(a ^ b),
        Arithmetic::ShiftLeft => Some(shift_left(a, distance, data_type)),
        Arithmetic::ShiftRight => Some(a >> distance),
    };
    result.ok_or_else(|| out_of_range(data_type))
}

/// Bits that leave the type are lost, as in PostgreSQL.
fn shift_left(a: i64, distance: u32, data_type: DataType) -> i64 {
    match data_type {
        DataType::Int2 => i64::from((a << distance) as i16),
        DataType::Int4 => i64::from((a << distance) as i32),
        _ => a << distance,
    }
}

fn exact(op: Arithmetic, a: &bigdecimal::BigDecimal, b: &bigdecimal::BigDecimal) -> Result<bigdecimal::BigDecimal> {
    match op {
        Arithmetic::Add => numeric::checked(sum(a, b, false)),
        Arithmetic::Subtract => numeric::checked(sum(a, b, true)),
        Arithmetic::Multiply => numeric::multiply(a, b),
        Arithmetic::Divide => numeric::divide(a, b),
        Arithmetic::Modulo => numeric::modulo(a, b),
        _ => Err(no_such(op, DataType::NUMERIC)),
    }
}

/// A sum or difference; its scale is the greater of the operands' also where one of them is zero.
fn sum(a: &bigdecimal::BigDecimal, b: &bigdecimal::BigDecimal, negate: bool) -> bigdecimal::BigDecimal {
    let scale = a.as_bigint_and_scale().1.max(b.as_bigint_and_scale().1);
    let result = if negate { a - b } else { a + b };
    result.with_scale(scale)
}

fn no_such(op: Arithmetic, data_type: DataType) -> Error {
    Error::new(state::INTERNAL, format!("operator {} of {} is not bound", op.symbol(), data_type.name()))
}

fn float(op: Arithmetic, a: f64, b: f64) -> Result<f64> {
    let result = match op {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide if b == 0.0 && !a.is_nan() => return Err(numeric::division_by_zero()),
        Arithmetic::Divide => a / b,
        _ => return Err(no_such(op, DataType::Float8)),
    };
    if result.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(Error::new(state::OUT_OF_RANGE, "value out of range: overflow"));
    }
    let vanished = result == 0.0 && a != 0.0 && (op == Arithmetic::Multiply && b != 0.0);
    let divided_away = result == 0.0 && a != 0.0 && op == Arithmetic::Divide && b.is_finite();
    if vanished || divided_away {
        return Err(Error::new(state::OUT_OF_RANGE, "value out of range: underflow"));
    }
    Ok(result)
}

/// Unary minus.
///
/// # Errors
/// `22003`: the least integer has no negative.
pub fn negate(value: Datum) -> Result<Datum> {
    let overflow = || out_of_range(value.data_type());
    Ok(match &value {
        Datum::Int2(v) => Datum::Int2(v.checked_neg().ok_or_else(overflow)?),
        Datum::Int4(v) => Datum::Int4(v.checked_neg().ok_or_else(overflow)?),
        Datum::Int8(v) => Datum::Int8(v.checked_neg().ok_or_else(overflow)?),
        Datum::Float8(v) => Datum::Float8(-v),
        Datum::Numeric(v) => Datum::Numeric(-v.clone()),
        _ => Datum::Null,
    })
}

/// `~`.
pub fn bit_not(value: Datum) -> Datum {
    match value {
        Datum::Int2(v) => Datum::Int2(!v),
        Datum::Int4(v) => Datum::Int4(!v),
        Datum::Int8(v) => Datum::Int8(!v),
        _ => Datum::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_never_wrap() {
        let add = apply(Arithmetic::Add, &Datum::Int4(i32::MAX), &Datum::Int4(1));
        assert_eq!(add.unwrap_err().message, "integer out of range");
        let divide = apply(Arithmetic::Divide, &Datum::Int8(i64::MIN), &Datum::Int8(-1));
        assert_eq!(divide.unwrap_err().sqlstate, "22003");
        assert_eq!(apply(Arithmetic::Modulo, &Datum::Int8(i64::MIN), &Datum::Int8(-1)).unwrap(), Datum::Int8(0));
        assert_eq!(negate(Datum::Int2(i16::MIN)).unwrap_err().message, "smallint out of range");
    }
}
