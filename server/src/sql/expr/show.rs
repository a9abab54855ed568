//! Expressions as SQL text, for `EXPLAIN`.

use proto::Datum;

use super::aggregate::AggregateCall;
use super::{Comparison, Expr};

/// How the columns of the input row are called.
pub type Names = [String];

/// The text of a constant, so that its type can be told.
pub fn literal(datum: &Datum) -> String {
    match datum {
        Datum::Null => "NULL".to_string(),
        Datum::Bool(v) => v.to_string(),
        Datum::Int2(_) | Datum::Int4(_) | Datum::Int8(_) | Datum::Numeric(_) | Datum::Float8(_) => datum.to_string(),
        other => format!("'{}'", other.to_string().replace('\'', "''")),
    }
}

/// The text of an expression, with parentheses around every operand that is an operation itself.
pub fn expression(expr: &Expr, names: &Names) -> String {
    let show = |e: &Expr| operand(e, names);
    let not = |negated: &bool| if *negated { "NOT " } else { "" };
    match expr {
        Expr::Const(datum) => literal(datum),
        Expr::Param(index) => format!("${}", index + 1),
        Expr::Column(index) => names.get(*index).cloned().unwrap_or_else(|| format!("#{index}")),
        Expr::Aggregate(index) => format!("aggregate #{index}"),
        Expr::Cast { expr, to, .. } => format!("{}::{to}", show(expr)),
        Expr::Arithmetic { op, left, right } => format!("{} {} {}", show(left), op.symbol(), show(right)),
        Expr::Negate(expr) => format!("-{}", show(expr)),
        Expr::BitNot(expr) => format!("~{}", show(expr)),
        Expr::Compare { op, left, right } => compare(*op, &show(left), &show(right)),
        Expr::Distinct { left, right, negated } => {
            format!("{} IS {}DISTINCT FROM {}", show(left), not(negated), show(right))
        }
        Expr::And(list) => joined(list, " AND ", names),
        Expr::Or(list) => joined(list, " OR ", names),
        Expr::Not(expr) => format!("NOT {}", show(expr)),
        Expr::IsNull { expr, negated } => format!("{} IS {}NULL", show(expr), not(negated)),
        Expr::IsTruth { expr, truth, negated } => {
            let truth = truth.map_or("UNKNOWN".to_string(), |t| t.to_string().to_uppercase());
            format!("{} IS {}{truth}", show(expr), not(negated))
        }
        Expr::Between { expr, low, high, negated } => {
            format!("{} {}BETWEEN {} AND {}", show(expr), not(negated), show(low), show(high))
        }
        Expr::InList { expr, list, negated } => {
            format!("{} {}IN ({})", show(expr), not(negated), joined(list, ", ", names))
        }
        Expr::Like { expr, pattern, negated, ignore_case, .. } => {
            let name = if *ignore_case { "ILIKE" } else { "LIKE" };
            format!("{} {}{name} {}", show(expr), not(negated), show(pattern))
        }
        Expr::Case { arms, .. } => format!("CASE with {} arms", arms.len()),
        Expr::Coalesce(list) => format!("coalesce({})", joined(list, ", ", names)),
        Expr::NullIf(left, right) => format!("nullif({}, {})", show(left), show(right)),
        Expr::Extreme { list, greatest } => {
            let name = if *greatest { "greatest" } else { "least" };
            format!("{name}({})", joined(list, ", ", names))
        }
        Expr::Call { function, args } => format!("{}({})", function.name(), joined(args, ", ", names)),
    }
}

fn compare(op: Comparison, left: &str, right: &str) -> String {
    format!("{left} {} {right}", op.symbol())
}

fn joined(list: &[Expr], separator: &str, names: &Names) -> String {
    let parts: Vec<String> = list.iter().map(|e| operand(e, names)).collect();
    parts.join(separator)
}

fn operand(expr: &Expr, names: &Names) -> String {
    let text = expression(expr, names);
    let simple = matches!(
        expr,
        Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Aggregate(_)
            | Expr::Cast { .. }
            | Expr::Coalesce(_)
            | Expr::NullIf(..)
            | Expr::Extreme { .. }
            | Expr::Call { .. }
    );
    if simple { text } else { format!("({text})") }
}

/// The text of an aggregate call.
pub fn aggregate(call: &AggregateCall, names: &Names) -> String {
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let arg = call.arg.as_ref().map_or("*".to_string(), |a| expression(a, names));
    let filter = call.filter.as_ref().map_or(String::new(), |f| format!(" FILTER ({})", expression(f, names)));
    format!("{}({distinct}{arg}){filter}", call.kind.name())
}
