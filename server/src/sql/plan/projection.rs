//! Select lists and `RETURNING`: expanding `*`, and naming columns as PostgreSQL does.

use proto::DataType;
use sqlparser::ast;

use super::super::error::{Error, Result, state};
use super::super::expr::Expr;
use super::super::expr::bind::{Binder, Scope, Typed, normalize};
use super::Column;

/// A bound item of a select list.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    pub typed: Typed,
}

/// Binds the items of a select list.
///
/// # Errors
/// As binding does; `54000` for too many.
pub fn bind(binder: &mut Binder<'_>, items: &[ast::SelectItem]) -> Result<Vec<Item>> {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item {
            ast::SelectItem::UnnamedExpr(expr) => out.push(bind_one(binder, expr, name_of(expr))?),
            ast::SelectItem::ExprWithAlias { expr, alias } => out.push(bind_one(binder, expr, normalize(alias))?),
            ast::SelectItem::Wildcard(options) => {
                plain(options)?;
                if binder.scope.table.is_none() {
                    let message = "SELECT * with no tables specified is not valid";
                    let position = binder.locator.position(options.wildcard_token.0.span);
                    return Err(Error::new(state::SYNTAX_ERROR, message).at(position));
                }
                out.extend(all_columns(binder.scope));
            }
            ast::SelectItem::QualifiedWildcard(ast::SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                plain(options)?;
                let table = match name.0.as_slice() {
                    [ast::ObjectNamePart::Identifier(table)] => normalize(table),
                    _ => name.to_string(),
                };
                if binder.scope.table.as_ref() != Some(&table) {
                    let message = format!("missing FROM-clause entry for table \"{table}\"");
                    return Err(Error::new(state::UNDEFINED_TABLE, message));
                }
                out.extend(all_columns(binder.scope));
            }
            _ => return Err(Error::unsupported("this kind of item in a select list")),
        }
    }
    if out.len() > binder.limits.columns_max {
        let message = format!("target lists can have at most {} entries", binder.limits.columns_max);
        return Err(Error::new(state::PROGRAM_LIMIT_EXCEEDED, message));
    }
    Ok(out)
}

fn plain(options: &ast::WildcardAdditionalOptions) -> Result<()> {
    let bare = options.opt_ilike.is_none()
        && options.opt_exclude.is_none()
        && options.opt_except.is_none()
        && options.opt_replace.is_none()
        && options.opt_rename.is_none()
        && options.opt_alias.is_none();
    if bare { Ok(()) } else { Err(Error::unsupported("an option of *")) }
}

fn bind_one(binder: &mut Binder<'_>, expr: &ast::Expr, name: String) -> Result<Item> {
    let typed = binder.bind(expr)?;
    let typed = binder.settle(typed)?;
    Ok(Item { name, typed })
}

fn all_columns(scope: &Scope) -> Vec<Item> {
    let visible = scope.columns.iter().enumerate().filter(|(_, c)| !c.hidden);
    let item = |(index, c): (usize, &super::super::expr::bind::ScopeColumn)| Item {
        name: c.name.clone(),
        typed: Typed { expr: Expr::Column(index), data_type: c.data_type, position: None },
    };
    visible.map(item).collect()
}

/// The result columns of items.
pub fn columns(items: &[Item]) -> Vec<Column> {
    items.iter().map(|i| Column { name: i.name.clone(), data_type: i.typed.data_type }).collect()
}

/// Binds `RETURNING`.
///
/// # Errors
/// As [`bind`].
pub fn returning(
    binder: &mut Binder<'_>,
    items: Option<&[ast::SelectItem]>,
) -> Result<(Option<Vec<Expr>>, Vec<Column>)> {
    let Some(items) = items else { return Ok((None, Vec::new())) };
    let items = bind(binder, items)?;
    let columns = columns(&items);
    Ok((Some(items.into_iter().map(|i| i.typed.expr).collect()), columns))
}

/// The name of a column that has no alias.
fn name_of(expr: &ast::Expr) -> String {
    match expr {
        ast::Expr::Identifier(name) => normalize(name),
        ast::Expr::CompoundIdentifier(names) => names.last().map_or_else(String::new, normalize),
        ast::Expr::Nested(inner) => name_of(inner),
        ast::Expr::Function(function) => match function.name.0.last() {
            Some(ast::ObjectNamePart::Identifier(name)) => normalize(name),
            _ => UNNAMED.to_string(),
        },
        ast::Expr::Cast { expr, data_type, .. } => match name_of(expr) {
            name if name == UNNAMED => {
                super::super::types::from_ast(data_type).map_or_else(|_| name, |t| internal_name(t).to_string())
            }
            name => name,
        },
        ast::Expr::TypedString(typed) => super::super::types::from_ast(&typed.data_type)
            .map_or_else(|_| UNNAMED.to_string(), |t| internal_name(t).to_string()),
        ast::Expr::Case { else_result, .. } => match else_result.as_deref().map(name_of) {
            Some(name) if name != UNNAMED => name,
            _ => "case".to_string(),
        },
        ast::Expr::Substring { .. } => "substring".to_string(),
        ast::Expr::Trim { trim_where: Some(ast::TrimWhereField::Leading), .. } => "ltrim".to_string(),
        ast::Expr::Trim { trim_where: Some(ast::TrimWhereField::Trailing), .. } => "rtrim".to_string(),
        ast::Expr::Trim { .. } => "btrim".to_string(),
        ast::Expr::Position { .. } => "position".to_string(),
        ast::Expr::Extract { .. } => "extract".to_string(),
        ast::Expr::Ceil { .. } => "ceil".to_string(),
        ast::Expr::Floor { .. } => "floor".to_string(),
        ast::Expr::Value(value) if matches!(value.value, ast::Value::Boolean(_)) => "bool".to_string(),
        _ => UNNAMED.to_string(),
    }
}

const UNNAMED: &str = "?column?";

/// `pg_type.typname`.
fn internal_name(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Unknown | DataType::Text => "text",
        DataType::Bool => "bool",
        DataType::Int2 => "int2",
        DataType::Int4 => "int4",
        DataType::Int8 => "int8",
        DataType::Float8 => "float8",
        DataType::Numeric { .. } => "numeric",
        DataType::Varchar(_) => "varchar",
        DataType::Bytea => "bytea",
        DataType::TimestampTz => "timestamptz",
        DataType::Date => "date",
        DataType::Uuid => "uuid",
    }
}
