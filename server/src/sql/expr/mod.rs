//! Expressions: bound, typed, and ready to be evaluated on a row.
//!
//! [`bind`] turns syntax into an [`Expr`], resolving names to positions in the row, choosing operators and functions by
//! type and inserting the casts that PostgreSQL would. After binding, an operator's operands have one type,
//! so evaluation ([`eval`]) never looks for one. What depends on constants only is evaluated once, at
//! binding time, unless that fails: then the error belongs to the row that meets it, if one does.

pub mod aggregate;
pub mod arithmetic;
pub mod bind;
pub mod cast;
pub mod eval;
pub mod functions;
pub mod like;
pub mod literal;
pub mod numeric;
pub mod operators;
pub mod resolve;
pub mod scalar;
pub mod show;
pub mod strings;

use proto::{DataType, Datum};

pub use eval::EvalContext;
pub use functions::{Function, Volatility};

/// A bound expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Const(Datum),
    /// A parameter by its index, from 0.
    Param(usize),
    /// A value of the input row.
    Column(usize),
    /// The result of an aggregate call, before planning puts it into the row.
    Aggregate(usize),
    /// A conversion, which also applies the type's modifiers; explicit ones cut what is too long.
    Cast {
        expr: Box<Expr>,
        to: DataType,
        explicit: bool,
    },
    Arithmetic {
        op: Arithmetic,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Negate(Box<Expr>),
    BitNot(Box<Expr>),
    Compare {
        op: Comparison,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    /// `IS [NOT] DISTINCT FROM`.
    Distinct {
        left: Box<Expr>,
        right: Box<Expr>,
        negated: bool,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    IsNull {
        expr: Box<Expr>,
        negated: bool,
    },
    /// `IS [NOT] TRUE`, `FALSE` and (`None`) `UNKNOWN`.
    IsTruth {
        expr: Box<Expr>,
        truth: Option<bool>,
        negated: bool,
    },
    Between {
        expr: Box<Expr>,
        low: Box<Expr>,
        high: Box<Expr>,
        negated: bool,
    },
    InList {
        expr: Box<Expr>,
        list: Vec<Expr>,
        negated: bool,
    },
    Like {
        expr: Box<Expr>,
        pattern: Box<Expr>,
        escape: Option<Box<Expr>>,
        negated: bool,
        ignore_case: bool,
    },
    /// With an operand, the conditions are values to compare it with.
    Case {
        operand: Option<Box<Expr>>,
        arms: Vec<(Expr, Expr)>,
        otherwise: Option<Box<Expr>>,
    },
    Coalesce(Vec<Expr>),
    NullIf(Box<Expr>, Box<Expr>),
    /// `GREATEST` and `LEAST`.
    Extreme {
        list: Vec<Expr>,
        greatest: bool,
    },
    Call {
        function: Function,
        args: Vec<Expr>,
    },
}

/// An arithmetic operator, by PostgreSQL's symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
}

impl Arithmetic {
    pub fn symbol(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Modulo => "%",
            Arithmetic::BitAnd => "&",
            Arithmetic::BitOr => "|",
            Arithmetic::BitXor => "#",
            Arithmetic::ShiftLeft => "<<",
            Arithmetic::ShiftRight => ">>",
        }
    }
}

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    NotEq,
    Lt,
    LtEq,
    Gt,
    GtEq,
}

impl Comparison {
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Eq => "=",
            Comparison::NotEq => "<>",
            Comparison::Lt => "<",
            Comparison::LtEq => "<=",
            Comparison::Gt => ">",
            Comparison::GtEq => ">=",
        }
    }

    /// Whether it holds for operands that sort like this.
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Eq => order.is_eq(),
            Comparison::NotEq => order.is_ne(),
            Comparison::Lt => order.is_lt(),
            Comparison::LtEq => order.is_le(),
            Comparison::Gt => order.is_gt(),
            Comparison::GtEq => order.is_ge(),
        }
    }

    /// The operator that holds when the operands are exchanged.
    pub fn mirrored(self) -> Comparison {
        match self {
            Comparison::Lt => Comparison::Gt,
            Comparison::LtEq => Comparison::GtEq,
            Comparison::Gt => Comparison::Lt,
            Comparison::GtEq => Comparison::LtEq,
            same => same,
        }
    }
}

impl Expr {
    pub const TRUE: Expr = Expr::Const(Datum::Bool(true));

    /// The expressions that this one is made of.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Const(_) | Expr::Param(_) | Expr::Column(_) | Expr::Aggregate(_) => Vec::new(),
            Expr::Cast { expr, .. }
            | Expr::Negate(expr)
            | Expr::BitNot(expr)
            | Expr::Not(expr)
            | Expr::IsNull { expr, .. }
            | Expr::IsTruth { expr, .. } => vec![expr],
            Expr::Arithmetic { left, right, .. }
            | Expr::Compare { left, right, .. }
            | Expr::Distinct { left, right, .. }
            | Expr::NullIf(left, right) => vec![left, right],
            Expr::And(list) | Expr::Or(list) | Expr::Coalesce(list) | Expr::Extreme { list, .. } => {
                list.iter().collect()
            }
            Expr::Call { args, .. } => args.iter().collect(),
            Expr::Between { expr, low, high, .. } => vec![expr, low, high],
            Expr::InList { expr, list, .. } => std::iter::once(&**expr).chain(list).collect(),
            Expr::Like { expr, pattern, escape, .. } => {
                [Some(expr), Some(pattern), escape.as_ref()].into_iter().flatten().map(|e| &**e).collect()
            }
            Expr::Case { operand, arms, otherwise } => {
                let ends = operand.iter().chain(otherwise).map(|e| &**e);
                ends.chain(arms.iter().flat_map(|(when, then)| [when, then])).collect()
            }
        }
    }

    /// The same, to change them.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Const(_) | Expr::Param(_) | Expr::Column(_) | Expr::Aggregate(_) => Vec::new(),
            Expr::Cast { expr, .. }
            | Expr::Negate(expr)
            | Expr::BitNot(expr)
            | Expr::Not(expr)
            | Expr::IsNull { expr, .. }
            | Expr::IsTruth { expr, .. } => vec![expr],
            Expr::Arithmetic { left, right, .. }
            | Expr::Compare { left, right, .. }
            | Expr::Distinct { left, right, .. }
            | Expr::NullIf(left, right) => vec![left, right],
            Expr::And(list) | Expr::Or(list) | Expr::Coalesce(list) | Expr::Extreme { list, .. } => {
                list.iter_mut().collect()
            }
            Expr::Call { args, .. } => args.iter_mut().collect(),
            Expr::Between { expr, low, high, .. } => vec![expr, low, high],
            Expr::InList { expr, list, .. } => std::iter::once(&mut **expr).chain(list).collect(),
            Expr::Like { expr, pattern, escape, .. } => {
                [Some(expr), Some(pattern), escape.as_mut()].into_iter().flatten().map(|e| &mut **e).collect()
            }
            Expr::Case { operand, arms, otherwise } => {
                let ends = operand.iter_mut().chain(otherwise).map(|e| &mut **e);
                ends.chain(arms.iter_mut().flat_map(|(when, then)| [when, then])).collect()
            }
        }
    }

    /// Whether some part of the expression satisfies a condition.
    pub fn any(&self, condition: &dyn Fn(&Expr) -> bool) -> bool {
        condition(self) || self.children().into_iter().any(|e| e.any(condition))
    }

    /// Whether it has one value for a whole statement: it looks at no row and calls nothing that changes by itself.
    pub fn is_row_independent(&self) -> bool {
        !self.any(&|e| match e {
            Expr::Column(_) | Expr::Aggregate(_) => true,
            Expr::Call { function, .. } => function.volatility() == Volatility::Volatile,
            _ => false,
        })
    }

    /// Evaluates an expression whose parts are constants, if that succeeds.
    pub fn fold(self) -> Expr {
        let foldable = match &self {
            Expr::Const(_) | Expr::Param(_) | Expr::Column(_) | Expr::Aggregate(_) => false,
            Expr::Call { function, .. } if function.volatility() != Volatility::Immutable => false,
            _ => self.children().into_iter().all(|e| matches!(e, Expr::Const(_))),
        };
        if !foldable {
            return self;
        }
        match self.eval_constant() {
            Ok(datum) => Expr::Const(datum),
            Err(_) => self,
        }
    }

    /// The conditions that all have to hold for this one to hold.
    pub fn conjuncts(self) -> Vec<Expr> {
        match self {
            Expr::And(list) => list.into_iter().flat_map(Expr::conjuncts).collect(),
            Expr::Const(Datum::Bool(true)) => Vec::new(),
            other => vec![other],
        }
    }

    /// The reverse of [`Expr::conjuncts`]; `None` for the condition that always holds.
    pub fn all_of(mut conjuncts: Vec<Expr>) -> Option<Expr> {
        match conjuncts.len() {
            0 => None,
            1 => conjuncts.pop(),
            _ => Some(Expr::And(conjuncts)),
        }
    }
}
