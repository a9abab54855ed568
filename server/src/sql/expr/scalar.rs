//! What the scalar functions compute. Functions of text are in `strings`.

use bigdecimal::BigDecimal;
use proto::datum::calendar::{self, MICROS_PER_DAY};
use proto::{DataType, Datum};

use super::super::error::{Error, Result, state};
use super::super::variables::{SERVER_VERSION, SessionInfo};
use super::{Arithmetic, EvalContext, Function, arithmetic, numeric, strings};

/// Calls a function. The binder has seen to the types of the arguments.
///
/// # Errors
/// What the function defines.
pub fn call(function: Function, args: Vec<Datum>, cx: &EvalContext<'_>) -> Result<Datum> {
    if function.is_strict() && args.iter().any(Datum::is_null) {
        return Ok(Datum::Null);
    }
    match (function, args.as_slice()) {
        (Function::Mod, [a, b]) => arithmetic::apply(Arithmetic::Modulo, a, b),
        (Function::Abs | Function::Sign, [value]) => sign_of(function, value),
        (Function::Round | Function::Trunc | Function::Floor | Function::Ceil, [Datum::Float8(v)]) => {
            Ok(Datum::Float8(match function {
                Function::Round => v.round_ties_even(),
                Function::Trunc => v.trunc(),
                Function::Floor => v.floor(),
                _ => v.ceil(),
            }))
        }
        (Function::Round | Function::Trunc | Function::Floor | Function::Ceil, [Datum::Numeric(v), rest @ ..]) => {
            round_exactly(function, v, rest)
        }
        (_, [Datum::Float8(a)]) => float_function(function, *a, 0.0),
        (_, [Datum::Float8(a), Datum::Float8(b)]) => float_function(function, *a, *b),
        (Function::Pi, _) => Ok(Datum::Float8(std::f64::consts::PI)),
        (Function::Extract, [Datum::Text(field), moment]) => extract(field, moment),
        (Function::DateTrunc, [Datum::Text(field), Datum::TimestampTz(moment)]) => {
            date_trunc(field, *moment).map(Datum::TimestampTz)
        }
        (Function::Now, _) => Ok(Datum::TimestampTz(cx.now)),
        (Function::CurrentDate, _) => {
            let days = cx.now.div_euclid(MICROS_PER_DAY);
            i32::try_from(days).map(Datum::Date).map_err(|_| arithmetic::out_of_range(DataType::Date))
        }
        (
            Function::ClockTimestamp
            | Function::FollowerReadTimestamp
            | Function::Random
            | Function::GenRandomUuid
            | Function::Version
            | Function::CurrentDatabase
            | Function::CurrentSchema
            | Function::CurrentUser
            | Function::BackendPid
            | Function::CurrentSetting
            | Function::IsInRecovery,
            args,
        ) => about_the_session(function, args, cx),
        _ => strings::call(function, &args),
    }
}

fn sign_of(function: Function, value: &Datum) -> Result<Datum> {
    let negative = match value {
        Datum::Float8(v) if function == Function::Sign => {
            return Ok(Datum::Float8(if *v == 0.0 || v.is_nan() { *v } else { v.signum() }));
        }
        Datum::Numeric(v) if function == Function::Sign => {
            let sign = match v.sign() {
                bigdecimal::num_bigint::Sign::Minus => -1,
                bigdecimal::num_bigint::Sign::NoSign => 0,
                bigdecimal::num_bigint::Sign::Plus => 1,
            };
            return Ok(Datum::Numeric(BigDecimal::from(sign)));
        }
        Datum::Float8(v) => return Ok(Datum::Float8(v.abs())),
        Datum::Numeric(v) => return Ok(Datum::Numeric(v.abs())),
        integer => integer.as_int().unwrap_or(0) < 0,
    };
    if negative { arithmetic::negate(value.clone()) } else { Ok(value.clone()) }
}

fn round_exactly(function: Function, value: &BigDecimal, digits: &[Datum]) -> Result<Datum> {
    let digits = match digits {
        [Datum::Int4(digits)] => *digits,
        _ => 0,
    };
    use bigdecimal::RoundingMode::{Ceiling, Floor};
    let rounded = match function {
        Function::Round => numeric::round_to(value, digits),
        Function::Trunc => numeric::truncate_to(value, digits),
        Function::Floor => value.with_scale_round(0, Floor),
        _ => value.with_scale_round(0, Ceiling),
    };
    numeric::checked(rounded).map(Datum::Numeric)
}

fn float_function(function: Function, a: f64, b: f64) -> Result<Datum> {
    let result = match function {
        Function::Sqrt if a < 0.0 => {
            return Err(Error::new(state::INVALID_POWER, "cannot take square root of a negative number"));
        }
        Function::Sqrt => a.sqrt(),
        Function::Ln | Function::Log10 if a == 0.0 => {
            return Err(Error::new(state::INVALID_LOG, "cannot take logarithm of zero"));
        }
        Function::Ln | Function::Log10 if a < 0.0 => {
            return Err(Error::new(state::INVALID_LOG, "cannot take logarithm of a negative number"));
        }
        Function::Ln => a.ln(),
        Function::Log10 => a.log10(),
        Function::Exp => a.exp(),
        Function::Power if a == 0.0 && b < 0.0 => {
            return Err(Error::new(state::INVALID_POWER, "zero raised to a negative power is undefined"));
        }
        Function::Power if a < 0.0 && b.is_finite() && b.fract() != 0.0 => {
            let message = "a negative number raised to a non-integer power yields a complex result";
            return Err(Error::new(state::INVALID_POWER, message));
        }
        Function::Power => a.powf(b),
        Function::ToTimestamp => return to_timestamp(a),
        _ => return Err(unbound(function)),
    };
    if result.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(Error::new(state::OUT_OF_RANGE, "value out of range: overflow"));
    }
    Ok(Datum::Float8(result))
}

/// For arguments that no signature allows.
pub fn unbound(function: Function) -> Error {
    Error::new(state::INTERNAL, format!("function {} was called with arguments that it has not", function.name()))
}

fn to_timestamp(seconds: f64) -> Result<Datum> {
    let micros = (seconds * 1e6).round_ties_even();
    let in_range = micros >= calendar::MICROS_MIN as f64 && micros < calendar::MICROS_MAX as f64;
    if !in_range {
        let message = format!("timestamp out of range: \"{seconds}\"");
        return Err(Error::new(state::DATETIME_OVERFLOW, message));
    }
    Ok(Datum::TimestampTz(micros as i64))
}

/// `EXTRACT(field FROM ...)`, as an exact number.
fn extract(field: &str, moment: &Datum) -> Result<Datum> {
    let (micros, is_date) = match moment {
        Datum::TimestampTz(micros) => (*micros, false),
        Datum::Date(days) => (i64::from(*days).saturating_mul(MICROS_PER_DAY), true),
        _ => return Err(unbound(Function::Extract)),
    };
    let days = micros.div_euclid(MICROS_PER_DAY);
    let time = micros.rem_euclid(MICROS_PER_DAY);
    let (year, month, day) = calendar::civil_from_days(days);
    let shown_year = if year > 0 { year } else { year - 1 };
    let whole = |v: i64| BigDecimal::from(v);
    let value = match field {
        "epoch" if is_date => whole(micros / 1_000_000),
        "epoch" => BigDecimal::new(micros.into(), 6),
        "year" => whole(shown_year),
        "quarter" => whole(i64::from((month - 1) / 3 + 1)),
        "month" => whole(month.into()),
        "day" => whole(day.into()),
        "doy" => whole(days - calendar::days_from_civil(year, 1, 1) + 1),
        "dow" => whole((days + 4).rem_euclid(7)),
        "isodow" => whole((days + 3).rem_euclid(7) + 1),
        "hour" if !is_date => whole(time / 3_600_000_000),
        "minute" if !is_date => whole(time / 60_000_000 % 60),
        "second" if !is_date => BigDecimal::new((time % 60_000_000).into(), 6),
        "milliseconds" if !is_date => BigDecimal::new((time % 60_000_000).into(), 3),
        "microseconds" if !is_date => whole(time % 60_000_000),
        _ => {
            let type_name = moment.data_type().name();
            let message = format!("unit \"{field}\" not supported for type {type_name}");
            return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message));
        }
    };
    Ok(Datum::Numeric(value))
}

fn date_trunc(field: &str, moment: i64) -> Result<i64> {
    let days = moment.div_euclid(MICROS_PER_DAY);
    let (year, month, _) = calendar::civil_from_days(days);
    let down_to = |unit: i64| moment - moment.rem_euclid(unit);
    let midnight = |days: i64| days.saturating_mul(MICROS_PER_DAY);
    Ok(match field {
        "microseconds" => moment,
        "milliseconds" => down_to(1_000),
        "second" => down_to(1_000_000),
        "minute" => down_to(60_000_000),
        "hour" => down_to(3_600_000_000),
        "day" => midnight(days),
        "week" => midnight(days - (days + 3).rem_euclid(7)),
        "month" => midnight(calendar::days_from_civil(year, month, 1)),
        "quarter" => midnight(calendar::days_from_civil(year, (month - 1) / 3 * 3 + 1, 1)),
        "year" => midnight(calendar::days_from_civil(year, 1, 1)),
        _ => {
            let message = format!("unit \"{field}\" not supported for type timestamp with time zone");
            return Err(Error::new(state::FEATURE_NOT_SUPPORTED, message));
        }
    })
}

/// Functions of the session, of the node's clock and of its random numbers.
fn about_the_session(function: Function, args: &[Datum], cx: &EvalContext<'_>) -> Result<Datum> {
    let session = || cx.session.ok_or_else(|| unbound(function));
    let kv = || cx.kv.ok_or_else(|| unbound(function));
    let text = |s: &str| Datum::Text(s.to_string());
    Ok(match (function, args) {
        (Function::ClockTimestamp, _) => {
            let micros = kv()?.clock().latest.micros();
            Datum::TimestampTz(i64::try_from(micros).map_err(|_| arithmetic::out_of_range(DataType::TimestampTz))?)
        }
        (Function::FollowerReadTimestamp, _) => {
            let lag = i64::try_from(kv()?.follower_lag().as_micros()).unwrap_or(i64::MAX);
            Datum::TimestampTz(cx.now.saturating_sub(lag))
        }
        // 53 bits fill the mantissa of a float below 1.
        (Function::Random, _) => Datum::Float8((kv()?.random() >> 75) as f64 / 2f64.powi(53)),
        (Function::GenRandomUuid, _) => Datum::Uuid(random_uuid(kv()?.random())),
        (Function::Version, _) => Datum::Text(SERVER_VERSION.full()),
        (Function::CurrentDatabase, _) => text(&session()?.database),
        (Function::CurrentSchema, _) => text(SessionInfo::SCHEMA),
        (Function::CurrentUser, _) => text(&session()?.user),
        (Function::BackendPid, _) => Datum::Int4(session()?.backend_pid),
        (Function::CurrentSetting, [Datum::Text(name)]) => Datum::Text(session()?.variables.get(name)?),
        (Function::IsInRecovery, _) => Datum::Bool(false),
        _ => return Err(unbound(function)),
    })
}

/// Marks random bits as a version 4 UUID of RFC 9562.
pub fn random_uuid(bits: u128) -> u128 {
    bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_version_four() {
        let text = Datum::Uuid(random_uuid(u128::MAX)).to_string();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn fields_of_a_moment() {
        let moment = Datum::parse_text(DataType::TimestampTz, "2024-02-29 13:14:15.5Z").unwrap();
        let field = |name| extract(name, &moment).unwrap().to_string();
        assert_eq!([field("doy"), field("dow"), field("second")], ["60", "4", "15.500000"]);
        assert_eq!(field("epoch"), "1709212455.500000");
    }
}
