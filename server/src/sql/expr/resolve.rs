//! Function calls: choosing a function by name and argument types.

use proto::{DataType, Datum};
use sqlparser::ast;

use super::super::error::{Error, Result, state};
use super::super::types::{self, CastContext};
use super::bind::{Binder, Typed, normalize};
use super::functions::{SIGNATURES, Signature};
use super::{Expr, aggregate};

/// Binds a call, or one of the functions with a syntax of their own.
///
/// # Errors
/// `42883` when nothing fits, `0A000` for what calls may have in PostgreSQL but not here.
pub fn bind(binder: &mut Binder<'_>, expr: &ast::Expr) -> Result<Typed> {
    let (name, args): (&str, Vec<&ast::Expr>) = match expr {
        ast::Expr::Function(function) => return bind_call(binder, function),
        ast::Expr::Substring { expr, substring_from, substring_for, .. } => {
            return substring(binder, expr, substring_from.as_deref(), substring_for.as_deref());
        }
        ast::Expr::Trim { trim_where, trim_what, expr, trim_characters } => {
            let name = match trim_where {
                Some(ast::TrimWhereField::Leading) => "ltrim",
                Some(ast::TrimWhereField::Trailing) => "rtrim",
                _ => "btrim",
            };
            let more = trim_characters.iter().flatten();
            (name, std::iter::once(&**expr).chain(trim_what.as_deref()).chain(more).collect())
        }
        ast::Expr::Position { expr, r#in } => ("strpos", vec![r#in, expr]),
        ast::Expr::Extract { field, expr, .. } => {
            let field = field.to_string().trim_matches(['\'', '"']).to_lowercase();
            let moment = binder.bind(expr)?;
            let position = moment.position;
            return call(binder, "extract", vec![text(&field), moment], position);
        }
        ast::Expr::Ceil { expr, field } => (plain_rounding("ceil", field)?, vec![expr]),
        ast::Expr::Floor { expr, field } => (plain_rounding("floor", field)?, vec![expr]),
        _ => return Err(Error::unsupported("this kind of expression")),
    };
    let args = args.into_iter().map(|a| binder.bind(a)).collect::<Result<Vec<_>>>()?;
    let position = args.first().and_then(|a| a.position);
    call(binder, name, args, position)
}

fn plain_rounding(name: &'static str, field: &ast::CeilFloorKind) -> Result<&'static str> {
    match field {
        ast::CeilFloorKind::DateTimeField(ast::DateTimeField::NoDateTime) => Ok(name),
        _ => Err(Error::unsupported("rounding to a unit or scale by CEIL and FLOOR")),
    }
}

fn text(value: &str) -> Typed {
    Typed { expr: Expr::Const(Datum::Text(value.to_string())), data_type: DataType::Text, position: None }
}

fn substring(
    binder: &mut Binder<'_>,
    expr: &ast::Expr,
    from: Option<&ast::Expr>,
    count: Option<&ast::Expr>,
) -> Result<Typed> {
    let mut args = vec![binder.bind(expr)?];
    let position = args[0].position;
    args.push(match from {
        Some(from) => binder.bind(from)?,
        None => Typed { expr: Expr::Const(Datum::Int4(1)), data_type: DataType::Int4, position: None },
    });
    if let Some(count) = count {
        args.push(binder.bind(count)?);
    }
    call(binder, "substring", args, position)
}

fn bind_call(binder: &mut Binder<'_>, function: &ast::Function) -> Result<Typed> {
    let name = match function.name.0.as_slice() {
        [ast::ObjectNamePart::Identifier(name)] => name,
        [ast::ObjectNamePart::Identifier(schema), ast::ObjectNamePart::Identifier(name)]
            if normalize(schema) == "pg_catalog" =>
        {
            name
        }
        _ => return Err(Error::unsupported("a qualified function name")),
    };
    let position = binder.locator.position(name.span);
    let name = normalize(name);
    if function.over.is_some() {
        return Err(Error::unsupported("a window function").at(position));
    }
    if function.null_treatment.is_some()
        || !function.within_group.is_empty()
        || !matches!(function.parameters, ast::FunctionArguments::None)
    {
        return Err(Error::unsupported("this form of a function call").at(position));
    }
    if aggregate::is_aggregate(&name) {
        return aggregate::bind(binder, &name, function, position);
    }
    if function.filter.is_some() {
        let message = format!("FILTER specified, but {name} is not an aggregate function");
        return Err(Error::new(state::WRONG_OBJECT_TYPE, message).at(position));
    }
    let args = plain_arguments(function).map_err(|e| e.at(position))?;
    let args = args.into_iter().map(|a| binder.bind(a)).collect::<Result<Vec<_>>>()?;
    match name.as_str() {
        "coalesce" | "greatest" | "least" => conditional(binder, &name, args, position),
        "nullif" => null_if(binder, args, position),
        "pg_typeof" => match args.as_slice() {
            [arg] => Ok(Typed { position, ..text(arg.data_type.name()) }),
            _ => Err(undefined(&name, &args, position)),
        },
        _ => call(binder, &name, args, position),
    }
}

/// The arguments of a call that has nothing but arguments.
///
/// # Errors
/// `0A000`, `42601`.
pub fn plain_arguments(function: &ast::Function) -> Result<Vec<&ast::Expr>> {
    let list = match &function.args {
        ast::FunctionArguments::None => return Ok(Vec::new()),
        ast::FunctionArguments::Subquery(_) => return Err(Error::unsupported("a subquery")),
        ast::FunctionArguments::List(list) => list,
    };
    if !list.clauses.is_empty() {
        return Err(Error::unsupported("a clause inside of a function call"));
    }
    let plain = |arg| match arg {
        &ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ref expr)) => Ok(expr),
        _ => Err(Error::unsupported("this kind of function argument")),
    };
    list.args.iter().map(plain).collect()
}

fn conditional(binder: &mut Binder<'_>, name: &str, args: Vec<Typed>, position: Option<usize>) -> Result<Typed> {
    if args.is_empty() {
        return Err(undefined(name, &args, position));
    }
    let (list, data_type) = binder.unite(args, &name.to_uppercase())?;
    let expr = match name {
        "coalesce" => Expr::Coalesce(list),
        _ => Expr::Extreme { list, greatest: name == "greatest" },
    };
    Ok(Typed { expr, data_type, position })
}

fn null_if(binder: &mut Binder<'_>, args: Vec<Typed>, position: Option<usize>) -> Result<Typed> {
    if args.len() != 2 {
        return Err(undefined("nullif", &args, position));
    }
    let (mut list, data_type) = binder.unite(args, "NULLIF")?;
    let right = list.pop().unwrap_or(Expr::TRUE);
    let left = list.pop().unwrap_or(Expr::TRUE);
    Ok(Typed { expr: Expr::NullIf(Box::new(left), Box::new(right)), data_type, position })
}

/// Binds a call of a scalar function on bound arguments.
///
/// # Errors
/// `42883` when no function of the name takes such arguments.
pub fn call(binder: &mut Binder<'_>, name: &str, args: Vec<Typed>, position: Option<usize>) -> Result<Typed> {
    let signature = choose(name, &args).ok_or_else(|| undefined(name, &args, position))?;
    let mut bound = Vec::with_capacity(args.len());
    for (i, arg) in args.into_iter().enumerate() {
        let arg = match signature.args.get(i) {
            Some(to) => binder.coerce(arg, *to, CastContext::Implicit)?,
            None => binder.settle(arg)?,
        };
        bound.push(arg.expr);
    }
    let expr = Expr::Call { function: signature.function, args: bound };
    Ok(Typed { expr, data_type: signature.result, position })
}

/// The signature with the most arguments of exactly its types, among those that the arguments convert to.
fn choose(name: &str, args: &[Typed]) -> Option<&'static Signature> {
    let mut best: Option<(usize, &Signature)> = None;
    for signature in SIGNATURES.iter().filter(|s| s.name == name) {
        let fits = signature.args.len() == args.len() || (signature.variadic && signature.args.len() <= args.len());
        let converts =
            |(arg, to): (&Typed, &DataType)| types::cast_context(arg.data_type, *to) == Some(CastContext::Implicit);
        if !fits || !args.iter().zip(signature.args).all(converts) {
            continue;
        }
        let exact = args.iter().zip(signature.args).filter(|(arg, to)| arg.data_type.base() == **to).count();
        if best.is_none_or(|(most, _)| exact > most) {
            best = Some((exact, signature));
        }
    }
    best.map(|(_, signature)| signature)
}

/// `42883` for a function.
pub fn undefined(name: &str, args: &[Typed], position: Option<usize>) -> Error {
    let types: Vec<&str> = args.iter().map(|a| a.data_type.name()).collect();
    Error::new(state::UNDEFINED_FUNCTION, format!("function {name}({}) does not exist", types.join(", ")))
        .hint("No function matches the given name and argument types. You might need to add explicit type casts.")
        .at(position)
}
