//! Evaluation of a bound expression on a row.

use std::borrow::Cow;

use proto::Datum;

use super::super::error::{Error, Result, state};
use super::super::variables::SessionInfo;
use super::{Comparison, Expr, arithmetic, cast, like, scalar};
use crate::kv::Kv;

/// What an expression may depend on besides its row.
#[derive(Clone, Copy)]
pub struct EvalContext<'a> {
    pub params: &'a [Datum],
    /// `now()`: when the transaction began, in microseconds since the Unix epoch.
    pub now: i64,
    pub session: Option<&'a SessionInfo>,
    pub kv: Option<&'a dyn Kv>,
}

impl EvalContext<'_> {
    /// For constants: no parameters, no session.
    pub const NONE: EvalContext<'static> = EvalContext { params: &[], now: 0, session: None, kv: None };
}

impl Expr {
    /// The value for a row.
    ///
    /// # Errors
    /// What SQL defines for the operation: overflow, division by zero, bad text and the like.
    pub fn eval(&self, row: &[Datum], cx: &EvalContext<'_>) -> Result<Datum> {
        Ok(match self {
            Expr::Const(_) | Expr::Param(_) | Expr::Column(_) => self.operand(row, cx)?.into_owned(),
            Expr::Aggregate(_) => return Err(Error::new(state::INTERNAL, "an aggregate was not planned")),
            Expr::Cast { expr, to, explicit } => cast::cast(expr.eval(row, cx)?, *to, *explicit)?,
            Expr::Arithmetic { op, left, right } => {
                arithmetic::apply(*op, &*left.operand(row, cx)?, &*right.operand(row, cx)?)?
            }
            Expr::Negate(expr) => arithmetic::negate(expr.eval(row, cx)?)?,
            Expr::BitNot(expr) => arithmetic::bit_not(expr.eval(row, cx)?),
            Expr::Coalesce(list) => first_not_null(list, row, cx)?,
            Expr::NullIf(left, right) => {
                let value = left.eval(row, cx)?;
                let equal = compare(Comparison::Eq, &value, &*right.operand(row, cx)?) == Some(true);
                if equal { Datum::Null } else { value }
            }
            Expr::Extreme { list, greatest } => extreme(list, *greatest, row, cx)?,
            Expr::Case { operand, arms, otherwise } => {
                return case(operand.as_deref(), arms, otherwise.as_deref(), row, cx);
            }
            Expr::Call { function, args } => {
                let args: Vec<Datum> = args.iter().map(|a| a.eval(row, cx)).collect::<Result<_>>()?;
                scalar::call(*function, args, cx)?
            }
            _ => self.truth(row, cx)?.map_or(Datum::Null, Datum::Bool),
        })
    }

    /// The value of a condition: true, false or (`None`) unknown.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn truth(&self, row: &[Datum], cx: &EvalContext<'_>) -> Result<Option<bool>> {
        Ok(match self {
            Expr::Compare { op, left, right } => compare(*op, &*left.operand(row, cx)?, &*right.operand(row, cx)?),
            Expr::Distinct { left, right, negated } => {
                let same = left.operand(row, cx)?.sort_order(&*right.operand(row, cx)?).is_eq();
                Some(same == *negated)
            }
            Expr::And(list) => connective(list, false, row, cx)?,
            Expr::Or(list) => connective(list, true, row, cx)?,
            Expr::Not(expr) => expr.truth(row, cx)?.map(|v| !v),
            Expr::IsNull { expr, negated } => Some(expr.operand(row, cx)?.is_null() != *negated),
            Expr::IsTruth { expr, truth, negated } => Some((expr.truth(row, cx)? == *truth) != *negated),
            Expr::Between { expr, low, high, negated } => {
                let value = expr.operand(row, cx)?;
                let above = compare(Comparison::GtEq, &value, &*low.operand(row, cx)?);
                let below = compare(Comparison::LtEq, &value, &*high.operand(row, cx)?);
                both(above, below).map(|v| v != *negated)
            }
            Expr::InList { expr, list, negated } => in_list(expr, list, row, cx)?.map(|v| v != *negated),
            Expr::Like { expr, pattern, escape, negated, ignore_case } => {
                let (text, pattern) = (expr.operand(row, cx)?, pattern.operand(row, cx)?);
                let escape = escape.as_ref().map(|e| e.operand(row, cx)).transpose()?;
                let (Datum::Text(text), Datum::Text(pattern)) = (&*text, &*pattern) else { return Ok(None) };
                let escape = match escape.as_deref() {
                    None => Some('\\'),
                    Some(Datum::Text(escape)) => like::escape_char(escape)?,
                    Some(_) => return Ok(None),
                };
                Some(like::matches(text, pattern, escape, *ignore_case)? != *negated)
            }
            _ => match &*self.operand(row, cx)? {
                Datum::Bool(v) => Some(*v),
                Datum::Null => None,
                other => {
                    let message = format!("a condition has type {}, not boolean", other.data_type().name());
                    return Err(Error::new(state::INTERNAL, message));
                }
            },
        })
    }

    /// The value, borrowed where it exists already.
    fn operand<'a>(&'a self, row: &'a [Datum], cx: &EvalContext<'a>) -> Result<Cow<'a, Datum>> {
        match self {
            Expr::Const(datum) => Ok(Cow::Borrowed(datum)),
            Expr::Column(index) => row.get(*index).map(Cow::Borrowed).ok_or_else(|| missing("column", *index)),
            Expr::Param(index) => cx.params.get(*index).map(Cow::Borrowed).ok_or_else(|| missing("parameter", *index)),
            _ => Ok(Cow::Owned(self.eval(row, cx)?)),
        }
    }

    /// The value of an expression of constants.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn eval_constant(&self) -> Result<Datum> {
        self.eval(&[], &EvalContext::NONE)
    }
}

fn missing(what: &str, index: usize) -> Error {
    Error::new(state::INTERNAL, format!("an expression asks for {what} {index}, which does not exist"))
}

/// Compares operands of one type; NULL makes it unknown.
pub fn compare(op: Comparison, left: &Datum, right: &Datum) -> Option<bool> {
    if left.is_null() || right.is_null() { None } else { Some(op.holds(left.sort_order(right))) }
}

fn both(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// `AND` and `OR`: `decisive` is the value that settles the matter, and stops the evaluation.
fn connective(list: &[Expr], decisive: bool, row: &[Datum], cx: &EvalContext<'_>) -> Result<Option<bool>> {
    let mut unknown = false;
    for expr in list {
        match expr.truth(row, cx)? {
            Some(v) if v == decisive => return Ok(Some(decisive)),
            Some(_) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { None } else { Some(!decisive) })
}

fn in_list(expr: &Expr, list: &[Expr], row: &[Datum], cx: &EvalContext<'_>) -> Result<Option<bool>> {
    let value = expr.operand(row, cx)?;
    let mut unknown = false;
    for candidate in list {
        match compare(Comparison::Eq, &value, &*candidate.operand(row, cx)?) {
            Some(true) => return Ok(Some(true)),
            Some(false) => {}
            None => unknown = true,
        }
    }
    Ok(if unknown { None } else { Some(false) })
}

fn first_not_null(list: &[Expr], row: &[Datum], cx: &EvalContext<'_>) -> Result<Datum> {
    for expr in list {
        let value = expr.eval(row, cx)?;
        if !value.is_null() {
            return Ok(value);
        }
    }
    Ok(Datum::Null)
}

fn extreme(list: &[Expr], greatest: bool, row: &[Datum], cx: &EvalContext<'_>) -> Result<Datum> {
    let mut best = Datum::Null;
    for expr in list {
        let value = expr.eval(row, cx)?;
        let order = value.sort_order(&best);
        if !value.is_null() && (best.is_null() || if greatest { order.is_gt() } else { order.is_lt() }) {
            best = value;
        }
    }
    Ok(best)
}

fn case(
    operand: Option<&Expr>,
    arms: &[(Expr, Expr)],
    otherwise: Option<&Expr>,
    row: &[Datum],
    cx: &EvalContext<'_>,
) -> Result<Datum> {
    let operand = operand.map(|e| e.operand(row, cx)).transpose()?;
    for (when, then) in arms {
        let taken = match &operand {
            Some(value) => compare(Comparison::Eq, value, &*when.operand(row, cx)?),
            None => when.truth(row, cx)?,
        };
        if taken == Some(true) {
            return then.eval(row, cx);
        }
    }
    otherwise.map_or(Ok(Datum::Null), |e| e.eval(row, cx))
}
