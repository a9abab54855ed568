//! Aggregate functions: binding a call, and accumulating values.

use std::collections::BTreeSet;

use bigdecimal::BigDecimal;
use proto::{DataType, Datum};
use sqlparser::ast;

use super::super::error::{Error, Result, state};
use super::super::types::{self, CastContext};
use super::bind::{Aggregates, Binder, Typed};
use super::resolve;
use super::{Arithmetic, Expr, arithmetic, numeric};

/// An aggregate function, by what it accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    /// Rows, or values that are not NULL.
    Count,
    /// Integers; the sum is a `BIGINT`.
    SumNarrow,
    /// `BIGINT`s; the sum is a `NUMERIC`.
    SumWide,
    SumNumeric,
    SumFloat,
    AverageInteger,
    AverageNumeric,
    AverageFloat,
    Min,
    Max,
    BoolAnd,
    BoolOr,
}

impl AggregateKind {
    pub fn name(self) -> &'static str {
        match self {
            AggregateKind::Count => "count",
            AggregateKind::SumNarrow | AggregateKind::SumWide | AggregateKind::SumNumeric | AggregateKind::SumFloat => {
                "sum"
            }
            AggregateKind::AverageInteger | AggregateKind::AverageNumeric | AggregateKind::AverageFloat => "avg",
            AggregateKind::Min => "min",
            AggregateKind::Max => "max",
            AggregateKind::BoolAnd => "bool_and",
            AggregateKind::BoolOr => "bool_or",
        }
    }
}

/// One aggregate call of a query.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    pub kind: AggregateKind,
    /// `None` for `count(*)`.
    pub arg: Option<Expr>,
    pub distinct: bool,
    /// `FILTER (WHERE ...)`.
    pub filter: Option<Expr>,
}

pub fn is_aggregate(name: &str) -> bool {
    matches!(name, "count" | "sum" | "avg" | "min" | "max" | "bool_and" | "bool_or" | "every")
}

/// Binds an aggregate call and adds it to those of the clause.
///
/// # Errors
/// `42803` where aggregates may not stand, `42883` for arguments that do not fit.
pub fn bind(binder: &mut Binder<'_>, name: &str, call: &ast::Function, position: Option<usize>) -> Result<Typed> {
    let outside = match &mut binder.aggregates {
        Aggregates::Refused(clause) => {
            let message = format!("aggregate functions are not allowed in {clause}");
            return Err(Error::new(state::GROUPING_ERROR, message).at(position));
        }
        Aggregates::Collected(calls) => std::mem::take(calls),
    };
    // The arguments see the rows, not the groups, so no aggregate may stand inside of them.
    binder.aggregates = Aggregates::Refused("arguments of aggregate functions");
    let bound = bind_parts(binder, name, call, position);
    let mut calls = outside;
    let (bound, data_type) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            binder.aggregates = Aggregates::Collected(calls);
            return Err(error);
        }
    };
    let index = calls.iter().position(|c| *c == bound).unwrap_or_else(|| {
        calls.push(bound);
        calls.len() - 1
    });
    binder.aggregates = Aggregates::Collected(calls);
    Ok(Typed { expr: Expr::Aggregate(index), data_type, position })
}

fn bind_parts(
    binder: &mut Binder<'_>,
    name: &str,
    call: &ast::Function,
    position: Option<usize>,
) -> Result<(AggregateCall, DataType)> {
    let filter = call.filter.as_ref().map(|f| binder.bind_condition(f, "FILTER")).transpose()?;
    let ast::FunctionArguments::List(list) = &call.args else {
        return Err(resolve::undefined(name, &[], position));
    };
    let distinct = list.duplicate_treatment == Some(ast::DuplicateTreatment::Distinct);
    if let [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Wildcard)] = list.args.as_slice() {
        if name != "count" || distinct {
            return Err(
                Error::new(state::UNDEFINED_FUNCTION, format!("function {name}(*) does not exist")).at(position)
            );
        }
        let call = AggregateCall { kind: AggregateKind::Count, arg: None, distinct: false, filter };
        return Ok((call, DataType::Int8));
    }
    let args = resolve::plain_arguments(call).map_err(|e| e.at(position))?;
    let args = args.into_iter().map(|a| binder.bind(a)).collect::<Result<Vec<_>>>()?;
    let [arg] = <[Typed; 1]>::try_from(args).map_err(|args| resolve::undefined(name, &args, position))?;
    let arg = binder.settle(arg)?;
    let (kind, to, result) =
        kind_for(name, arg.data_type).ok_or_else(|| resolve::undefined(name, std::slice::from_ref(&arg), position))?;
    let arg = Some(binder.coerce(arg, to, CastContext::Implicit)?.expr);
    Ok((AggregateCall { kind, arg, distinct, filter }, result))
}

/// The function for an argument's type, the type that the argument is brought to, and the result's.
fn kind_for(name: &str, arg: DataType) -> Option<(AggregateKind, DataType, DataType)> {
    let base = arg.base();
    let narrow = matches!(base, DataType::Int2 | DataType::Int4);
    let ordered =
        types::numeric_rank(base).is_some() || matches!(base, DataType::Text | DataType::Date | DataType::TimestampTz);
    Some(match (name, base) {
        ("count", _) => (AggregateKind::Count, base, DataType::Int8),
        ("sum", _) if narrow => (AggregateKind::SumNarrow, base, DataType::Int8),
        ("sum", DataType::Int8) => (AggregateKind::SumWide, base, DataType::NUMERIC),
        ("sum", DataType::Numeric { .. }) => (AggregateKind::SumNumeric, base, base),
        ("sum", DataType::Float8) => (AggregateKind::SumFloat, base, base),
        ("avg", DataType::Int2 | DataType::Int4 | DataType::Int8) => {
            (AggregateKind::AverageInteger, base, DataType::NUMERIC)
        }
        ("avg", DataType::Numeric { .. }) => (AggregateKind::AverageNumeric, base, base),
        ("avg", DataType::Float8) => (AggregateKind::AverageFloat, base, base),
        ("min", _) if ordered => (AggregateKind::Min, base, base),
        ("max", _) if ordered => (AggregateKind::Max, base, base),
        ("bool_and" | "every", DataType::Bool) => (AggregateKind::BoolAnd, base, base),
        ("bool_or", DataType::Bool) => (AggregateKind::BoolOr, base, base),
        _ => return None,
    })
}

/// A datum that sorts, for sets.
#[derive(Clone, Debug)]
pub struct Sorted(pub Datum);

impl PartialEq for Sorted {
    fn eq(&self, other: &Sorted) -> bool {
        self.0.sort_order(&other.0).is_eq()
    }
}

impl Eq for Sorted {}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Sorted) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sorted {
    fn cmp(&self, other: &Sorted) -> std::cmp::Ordering {
        self.0.sort_order(&other.0)
    }
}

/// The state of one aggregate call in one group.
#[derive(Clone, Debug)]
pub struct Accumulator {
    kind: AggregateKind,
    count: i64,
    integer: i128,
    exact: BigDecimal,
    float: f64,
    extreme: Datum,
    seen: Option<BTreeSet<Sorted>>,
}

impl Accumulator {
    pub fn new(call: &AggregateCall) -> Accumulator {
        Accumulator {
            kind: call.kind,
            count: 0,
            integer: 0,
            exact: BigDecimal::from(0),
            float: 0.0,
            extreme: Datum::Null,
            seen: call.distinct.then(BTreeSet::new),
        }
    }

    /// Takes a value; NULLs are skipped. Returns how many bytes it now keeps more.
    ///
    /// # Errors
    /// `22003`.
    pub fn add(&mut self, value: Datum) -> Result<usize> {
        if value.is_null() {
            return Ok(0);
        }
        let mut kept = 0;
        if let Some(seen) = &mut self.seen {
            if !seen.insert(Sorted(value.clone())) {
                return Ok(0);
            }
            kept = value.memory();
        }
        self.count += 1;
        match (self.kind, &value) {
            (AggregateKind::Count, _) => {}
            (AggregateKind::SumNumeric | AggregateKind::AverageNumeric, Datum::Numeric(v)) => {
                let sum = arithmetic::apply(Arithmetic::Add, &Datum::Numeric(std::mem::take(&mut self.exact)), &value)?;
                self.exact = if let Datum::Numeric(sum) = sum { sum } else { v.clone() };
            }
            (AggregateKind::SumFloat | AggregateKind::AverageFloat, Datum::Float8(_)) => {
                let sum = arithmetic::apply(Arithmetic::Add, &Datum::Float8(self.float), &value)?;
                self.float = if let Datum::Float8(sum) = sum { sum } else { self.float };
            }
            (AggregateKind::Min | AggregateKind::Max | AggregateKind::BoolAnd | AggregateKind::BoolOr, _) => {
                let order = value.sort_order(&self.extreme);
                let least = matches!(self.kind, AggregateKind::Min | AggregateKind::BoolAnd);
                if self.extreme.is_null() || if least { order.is_lt() } else { order.is_gt() } {
                    self.extreme = value;
                }
            }
            // At most 2^63 values of at most 2^63: within 128 bits.
            (_, integer) => self.integer += i128::from(integer.as_int().unwrap_or(0)),
        }
        Ok(kept)
    }

    /// Takes a row, for `count(*)`.
    pub fn add_row(&mut self) {
        self.count += 1;
    }

    /// The result.
    ///
    /// # Errors
    /// `22003`.
    pub fn finish(self) -> Result<Datum> {
        let exact_count = BigDecimal::from(self.count);
        Ok(match self.kind {
            AggregateKind::Count => Datum::Int8(self.count),
            _ if self.count == 0 => Datum::Null,
            AggregateKind::SumNarrow => {
                Datum::Int8(i64::try_from(self.integer).map_err(|_| arithmetic::out_of_range(DataType::Int8))?)
            }
            AggregateKind::SumWide => Datum::Numeric(BigDecimal::from(self.integer)),
            AggregateKind::SumNumeric => Datum::Numeric(self.exact),
            AggregateKind::SumFloat => Datum::Float8(self.float),
            AggregateKind::AverageInteger => {
                Datum::Numeric(numeric::divide(&BigDecimal::from(self.integer), &exact_count)?)
            }
            AggregateKind::AverageNumeric => Datum::Numeric(numeric::divide(&self.exact, &exact_count)?),
            AggregateKind::AverageFloat => Datum::Float8(self.float / self.count as f64),
            AggregateKind::Min | AggregateKind::Max | AggregateKind::BoolAnd | AggregateKind::BoolOr => self.extreme,
        })
    }
}
