//! From syntax to bound expressions.
//!
//! A [`Binder`] knows the columns in [`Scope`], collects the types of [`Parameters`] as their contexts reveal them, and
//! collects the aggregate calls of a clause that may have some. Chains of binary operators, which the parser
//! nests to the left without bound, are walked in a loop; what is left of the recursion is limited.

use proto::{DataType, Datum};
use sqlparser::ast;

use super::super::error::{Error, Result, similar, state};
use super::super::limits::Limits;
use super::super::parser::Locator;
use super::super::types::{self, CastContext};
use super::aggregate::AggregateCall;
use super::{Expr, literal, operators, resolve};

/// How deeply binding may recurse.
const BIND_DEPTH_MAX: usize = 100;

/// A bound expression with its type, and where it stands in the statement.
#[derive(Clone, Debug)]
pub struct Typed {
    pub expr: Expr,
    pub data_type: DataType,
    pub position: Option<usize>,
}

/// A column that an expression may name.
#[derive(Clone, Debug)]
pub struct ScopeColumn {
    pub name: String,
    pub data_type: DataType,
    /// Left out of `*`.
    pub hidden: bool,
}

/// The columns of the input row, and the table name that may qualify them.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub table: Option<String>,
    pub columns: Vec<ScopeColumn>,
}

/// The types of a statement's parameters; `Unknown` where nothing has told yet.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    types: Vec<DataType>,
}

impl Parameters {
    /// Starts with what the client has declared.
    pub fn new(hints: &[Option<DataType>]) -> Parameters {
        Parameters { types: hints.iter().map(|h| h.unwrap_or(DataType::Unknown)).collect() }
    }

    /// The type of a parameter by its index, which is taken note of.
    pub fn mention(&mut self, index: usize) -> DataType {
        if index >= self.types.len() {
            self.types.resize(index + 1, DataType::Unknown);
        }
        self.types[index]
    }

    fn infer(&mut self, index: usize, data_type: DataType) {
        self.types[index] = data_type.base();
    }

    /// Whether no parameter was mentioned.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// The final types.
    ///
    /// # Errors
    /// `42P18` for a parameter that nothing has given a type.
    pub fn finish(self) -> Result<Vec<DataType>> {
        match self.types.iter().position(|t| *t == DataType::Unknown) {
            None => Ok(self.types),
            Some(index) => {
                let message = format!("could not determine data type of parameter ${}", index + 1);
                Err(Error::new(state::INDETERMINATE_TYPE, message))
            }
        }
    }
}

/// Whether aggregate calls may stand here.
#[derive(Debug)]
pub enum Aggregates {
    /// No; the clause, for the message.
    Refused(&'static str),
    /// Yes; they are collected.
    Collected(Vec<AggregateCall>),
}

/// Binds the expressions of one clause.
pub struct Binder<'a> {
    pub scope: &'a Scope,
    pub parameters: &'a mut Parameters,
    pub locator: &'a Locator,
    pub limits: &'a Limits,
    pub aggregates: Aggregates,
    depth: usize,
}

impl<'a> Binder<'a> {
    pub fn new(
        scope: &'a Scope,
        parameters: &'a mut Parameters,
        locator: &'a Locator,
        limits: &'a Limits,
        aggregates: Aggregates,
    ) -> Binder<'a> {
        Binder { scope, parameters, locator, limits, aggregates, depth: 0 }
    }

    /// Binds an expression.
    ///
    /// # Errors
    /// `42703`, `42883`, `42804` and their like, with positions.
    pub fn bind(&mut self, expr: &ast::Expr) -> Result<Typed> {
        if self.depth >= BIND_DEPTH_MAX {
            let message = format!("the statement nests more than {BIND_DEPTH_MAX} expressions");
            return Err(Error::new(state::STATEMENT_TOO_COMPLEX, message));
        }
        self.depth += 1;
        let bound = self.bind_here(expr);
        self.depth -= 1;
        bound.map(|typed| Typed { expr: typed.expr.fold(), ..typed })
    }

    fn bind_here(&mut self, expr: &ast::Expr) -> Result<Typed> {
        match expr {
            ast::Expr::Nested(inner) => self.bind(inner),
            ast::Expr::Identifier(name) => self.column(std::slice::from_ref(name)),
            ast::Expr::CompoundIdentifier(names) => self.column(names),
            ast::Expr::Value(value) => literal::bind(self, value),
            ast::Expr::BinaryOp { .. } => self.binary_chain(expr),
            ast::Expr::UnaryOp { op, expr } => operators::unary(self, *op, expr),
            ast::Expr::Cast { expr, data_type, kind, format } => self.cast(expr, data_type, kind, format.is_some()),
            ast::Expr::TypedString(typed) => self.typed_string(typed),
            ast::Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            ast::Expr::Function(_)
            | ast::Expr::Substring { .. }
            | ast::Expr::Trim { .. }
            | ast::Expr::Position { .. }
            | ast::Expr::Extract { .. }
            | ast::Expr::Ceil { .. }
            | ast::Expr::Floor { .. } => resolve::bind(self, expr),
            _ => operators::predicate(self, expr),
        }
    }

    /// Binds a condition.
    ///
    /// # Errors
    /// As [`Binder::bind`]; `42804` when it is not boolean.
    pub fn bind_condition(&mut self, expr: &ast::Expr, clause: &str) -> Result<Expr> {
        let typed = self.bind(expr)?;
        self.condition(typed, clause)
    }

    /// Makes an operand of `WHERE`, `AND`, `NOT` and the like boolean.
    ///
    /// # Errors
    /// `42804`.
    pub fn condition(&mut self, typed: Typed, clause: &str) -> Result<Expr> {
        if !matches!(typed.data_type, DataType::Bool | DataType::Unknown) {
            let message = format!("argument of {clause} must be type boolean, not type {}", typed.data_type.name());
            return Err(Error::new(state::DATATYPE_MISMATCH, message).at(typed.position));
        }
        Ok(self.coerce(typed, DataType::Bool, CastContext::Implicit)?.expr)
    }

    /// Converts to a type, if the context allows.
    ///
    /// # Errors
    /// `42846` or `42804` when it does not; errors of the conversion itself for constants.
    pub fn coerce(&mut self, typed: Typed, to: DataType, context: CastContext) -> Result<Typed> {
        let explicit = context == CastContext::Explicit;
        let position = typed.position;
        let expr = match (typed.expr, typed.data_type) {
            (expr, from) if from == to || to == DataType::Unknown => expr,
            (Expr::Const(Datum::Null), _) => Expr::Const(Datum::Null),
            (Expr::Const(Datum::Text(text)), DataType::Unknown) => {
                let parsed = Datum::parse_text(to.base(), &text).map_err(|e| Error::from(e).at(position))?;
                let cut = super::cast::cast(parsed, to, explicit).map_err(|e| e.at(position))?;
                Expr::Const(cut)
            }
            (Expr::Param(index), DataType::Unknown) => {
                self.parameters.infer(index, to);
                with_modifier(Expr::Param(index), to.base(), to, explicit)
            }
            (expr, from) if from.base() == to.base() => with_modifier(expr, from, to, explicit),
            (expr, from) => {
                if types::cast_context(from, to).is_none_or(|weakest| weakest > context) {
                    let (from, to) = (from.name(), to.name());
                    let message = format!("cannot cast type {from} to {to}");
                    return Err(Error::new(state::CANNOT_COERCE, message).at(position));
                }
                Expr::Cast { expr: Box::new(expr), to, explicit }
            }
        };
        Ok(Typed { expr: expr.fold(), data_type: to, position })
    }

    /// What is still untyped becomes text, as in a select list.
    ///
    /// # Errors
    /// None in practice; see [`Binder::coerce`].
    pub fn settle(&mut self, typed: Typed) -> Result<Typed> {
        if typed.data_type == DataType::Unknown {
            self.coerce(typed, DataType::Text, CastContext::Implicit)
        } else {
            Ok(typed)
        }
    }

    /// Binds expressions to the one type that all of them have in common.
    ///
    /// # Errors
    /// `42804` naming the construct when there is none.
    pub fn unite(&mut self, items: Vec<Typed>, construct: &str) -> Result<(Vec<Expr>, DataType)> {
        let mut common = DataType::Unknown;
        for item in &items {
            common = types::common_type(common, item.data_type).ok_or_else(|| {
                let (a, b) = (common.name(), item.data_type.name());
                let message = format!("{construct} types {a} and {b} cannot be matched");
                Error::new(state::DATATYPE_MISMATCH, message).at(item.position)
            })?;
        }
        let common = if common == DataType::Unknown { DataType::Text } else { common };
        let coerce = |item| Ok(self.coerce(item, common, CastContext::Implicit)?.expr);
        Ok((items.into_iter().map(coerce).collect::<Result<_>>()?, common))
    }

    /// A column by its name, perhaps qualified.
    fn column(&mut self, names: &[ast::Ident]) -> Result<Typed> {
        let (qualifier, name) = match names {
            [name] => (None, name),
            [qualifier, name] => (Some(qualifier), name),
            _ => return Err(Error::unsupported("a column name with more than one qualifier")),
        };
        let position = self.locator.position(names[0].span);
        if let Some(qualifier) = qualifier {
            let wanted = normalize(qualifier);
            if self.scope.table.as_ref() != Some(&wanted) {
                let message = format!("missing FROM-clause entry for table \"{wanted}\"");
                return Err(Error::new(state::UNDEFINED_TABLE, message).at(position));
            }
        }
        let wanted = normalize(name);
        match self.scope.columns.iter().position(|c| c.name == wanted) {
            Some(index) => {
                Ok(Typed { expr: Expr::Column(index), data_type: self.scope.columns[index].data_type, position })
            }
            None if wanted == "current_schema" && qualifier.is_none() => resolve::call(self, &wanted, vec![], position),
            None => Err(self.undefined_column(&wanted, position)),
        }
    }

    fn undefined_column(&self, name: &str, position: Option<usize>) -> Error {
        let error = Error::new(state::UNDEFINED_COLUMN, format!("column \"{name}\" does not exist")).at(position);
        match similar(name, self.scope.columns.iter().map(|c| c.name.as_str())) {
            Some(known) => {
                let table = self.scope.table.as_deref().unwrap_or("");
                error.hint(format!("Perhaps you meant to reference the column \"{table}.{known}\"."))
            }
            None => error,
        }
    }

    /// A chain of binary operators, from its leftmost operand on.
    fn binary_chain(&mut self, expr: &ast::Expr) -> Result<Typed> {
        let mut links = Vec::new();
        let mut leftmost = expr;
        while let ast::Expr::BinaryOp { left, op, right } = leftmost {
            if let Some(comparison) = operators::row_comparison(self, left, op, right)? {
                return self.fold_chain(comparison, links);
            }
            links.push((op, &**right));
            leftmost = left;
        }
        let first = self.bind(leftmost)?;
        self.fold_chain(first, links)
    }

    fn fold_chain(&mut self, first: Typed, links: Vec<(&ast::BinaryOperator, &ast::Expr)>) -> Result<Typed> {
        let mut result = first;
        for (op, right) in links.into_iter().rev() {
            let right = self.bind(right)?;
            let combined = operators::binary(self, op, result, right)?;
            result = Typed { expr: combined.expr.fold(), ..combined };
        }
        Ok(result)
    }

    fn cast(
        &mut self,
        expr: &ast::Expr,
        data_type: &ast::DataType,
        kind: &ast::CastKind,
        formatted: bool,
    ) -> Result<Typed> {
        if formatted || !matches!(kind, ast::CastKind::Cast | ast::CastKind::DoubleColon) {
            return Err(Error::unsupported("this form of CAST"));
        }
        let inner = self.bind(expr)?;
        let position = inner.position;
        let to = types::from_ast(data_type).map_err(|e| e.at(position))?;
        self.coerce(inner, to, CastContext::Explicit)
    }

    fn typed_string(&mut self, typed: &ast::TypedString) -> Result<Typed> {
        let position = self.locator.position(typed.value.span);
        let to = types::from_ast(&typed.data_type).map_err(|e| e.at(position))?;
        let value = literal::bind(self, &typed.value)?;
        self.coerce(value, to, CastContext::Explicit)
    }

    fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        conditions: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Result<Typed> {
        let mut results = conditions.iter().map(|c| self.bind(&c.result)).collect::<Result<Vec<_>>>()?;
        let position = results.first().and_then(|r| r.position);
        let has_else = otherwise.is_some();
        if let Some(otherwise) = otherwise {
            results.push(self.bind(otherwise)?);
        }
        let (mut results, data_type) = self.unite(results, "CASE")?;
        let otherwise = if has_else { results.pop().map(Box::new) } else { None };
        let (operand, whens) = match operand {
            None => {
                let when = |c: &ast::CaseWhen| self.bind_condition(&c.condition, "CASE/WHEN");
                (None, conditions.iter().map(when).collect::<Result<Vec<_>>>()?)
            }
            Some(operand) => {
                let mut compared = vec![self.bind(operand)?];
                for condition in conditions {
                    compared.push(self.bind(&condition.condition)?);
                }
                let (mut compared, _) = self.unite(compared, "CASE/WHEN")?;
                let operand = compared.remove(0);
                (Some(Box::new(operand)), compared)
            }
        };
        let arms = whens.into_iter().zip(results).collect();
        Ok(Typed { expr: Expr::Case { operand, arms, otherwise }, data_type, position })
    }
}

/// Adds a cast where the target type has modifiers that the value may not meet.
fn with_modifier(expr: Expr, from: DataType, to: DataType, explicit: bool) -> Expr {
    let has_modifier =
        matches!(to, DataType::Varchar(Some(_)) | DataType::Numeric { precision: Some(_), .. }) && from != to;
    if has_modifier { Expr::Cast { expr: Box::new(expr), to, explicit } } else { expr }
}

/// An identifier as names are stored: lower case unless it was quoted.
pub fn normalize(ident: &ast::Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}
