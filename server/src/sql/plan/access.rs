//! Access paths: points and bounds in the conditions of `WHERE`, and the order that keys have anyway.

use std::sync::Arc;

use proto::DataType;

use super::super::expr::{Comparison, Expr};
use super::super::limits::Limits;
use super::super::schema::Table;
use super::super::types;
use super::{Bounds, Node, SortKey};

/// How the rows of a table are reached, and what remains to be checked of them.
pub struct Access {
    table: Arc<Table>,
    path: Path,
    /// Conditions that the path does not guarantee.
    pub residual: Vec<Expr>,
}

enum Path {
    Points(Vec<Vec<Expr>>),
    Scan(Bounds),
}

/// Finds the path for conditions that all have to hold.
pub fn plan(table: &Arc<Table>, conditions: Vec<Expr>, limits: &Limits) -> Access {
    let mut conditions: Vec<Expr> = conditions.into_iter().map(disjunction_as_list).collect();
    let mut keys: Vec<Vec<Expr>> = Vec::new();
    let mut used = Vec::new();
    let mut points = 1usize;
    for &ordinal in table.key_ordinals() {
        let Some((index, values)) = equalities(table, &conditions, ordinal) else { break };
        points = points.saturating_mul(values.len());
        keys.push(values);
        used.push(index);
    }
    if keys.len() == table.key_ordinals().len() && points <= limits.points_max {
        remove(&mut conditions, used);
        return Access { table: table.clone(), path: Path::Points(keys), residual: conditions };
    }
    // Only single values make a prefix; a list in between ends it.
    let fixed = keys.iter().take_while(|values| values.len() == 1).count();
    used.truncate(fixed);
    let prefix: Vec<Expr> = keys.into_iter().take(fixed).flatten().collect();
    let mut bounds = Bounds { prefix, low: None, high: None };
    if let Some(&ordinal) = table.key_ordinals().get(fixed) {
        add_range(table, &conditions, ordinal, &mut bounds, &mut used);
    }
    remove(&mut conditions, used);
    Access { table: table.clone(), path: Path::Scan(bounds), residual: conditions }
}

fn remove(conditions: &mut Vec<Expr>, used: Vec<usize>) {
    let mut index = 0;
    conditions.retain(|_| {
        index += 1;
        !used.contains(&(index - 1))
    });
}

/// `a = 1 OR a = 2` is `a IN (1, 2)`.
fn disjunction_as_list(condition: Expr) -> Expr {
    let Expr::Or(list) = &condition else { return condition };
    let mut operand: Option<&Expr> = None;
    let mut values = Vec::with_capacity(list.len());
    for alternative in list {
        let Expr::Compare { op: Comparison::Eq, left, right } = alternative else { return condition };
        let (column, value) = if right.is_row_independent() { (left, right) } else { (right, left) };
        if !value.is_row_independent() || operand.is_some_and(|o| o != &**column) {
            return condition;
        }
        operand = Some(column);
        values.push((**value).clone());
    }
    match operand {
        Some(operand) => Expr::InList { expr: Box::new(operand.clone()), list: values, negated: false },
        None => condition,
    }
}

/// Whether an expression is a column, perhaps widened among the integers, whose keys do not depend on their width.
fn is_column(table: &Table, expr: &Expr, ordinal: usize) -> bool {
    match expr {
        Expr::Column(index) => *index == ordinal,
        Expr::Cast { expr, to, .. } if types::is_integer(*to) => {
            matches!(**expr, Expr::Column(index) if index == ordinal)
                && table.columns().get(ordinal).is_some_and(|c| types::is_integer(c.data_type))
        }
        _ => false,
    }
}

/// The first condition that gives a column one value, or one of several.
fn equalities(table: &Table, conditions: &[Expr], ordinal: usize) -> Option<(usize, Vec<Expr>)> {
    conditions.iter().enumerate().find_map(|(index, condition)| match condition {
        Expr::Compare { op: Comparison::Eq, left, right } => {
            let value = other_side(table, left, right, ordinal)?;
            Some((index, vec![value.clone()]))
        }
        Expr::InList { expr, list, negated: false }
            if is_column(table, expr, ordinal) && list.iter().all(Expr::is_row_independent) =>
        {
            Some((index, list.clone()))
        }
        // A condition that is just a boolean column.
        Expr::Column(column) if *column == ordinal => {
            let is_bool = table.columns().get(ordinal).is_some_and(|c| c.data_type == DataType::Bool);
            is_bool.then(|| (index, vec![Expr::TRUE]))
        }
        _ => None,
    })
}

fn other_side<'a>(table: &Table, left: &'a Expr, right: &'a Expr, ordinal: usize) -> Option<&'a Expr> {
    if is_column(table, left, ordinal) && right.is_row_independent() {
        Some(right)
    } else if is_column(table, right, ordinal) && left.is_row_independent() {
        Some(left)
    } else {
        None
    }
}

/// Takes the first lower and the first upper bound of a column.
fn add_range(table: &Table, conditions: &[Expr], ordinal: usize, bounds: &mut Bounds, used: &mut Vec<usize>) {
    for (index, condition) in conditions.iter().enumerate() {
        match condition {
            Expr::Compare { op, left, right } => {
                let Some(value) = other_side(table, left, right, ordinal) else { continue };
                let op = if is_column(table, left, ordinal) { *op } else { op.mirrored() };
                let (side, inside) = match op {
                    Comparison::Gt => (&mut bounds.low, false),
                    Comparison::GtEq => (&mut bounds.low, true),
                    Comparison::Lt => (&mut bounds.high, false),
                    Comparison::LtEq => (&mut bounds.high, true),
                    Comparison::Eq | Comparison::NotEq => continue,
                };
                if side.is_none() {
                    *side = Some((value.clone(), inside));
                    used.push(index);
                }
            }
            Expr::Between { expr, low, high, negated: false }
                if is_column(table, expr, ordinal)
                    && low.is_row_independent()
                    && high.is_row_independent()
                    && bounds.low.is_none()
                    && bounds.high.is_none() =>
            {
                bounds.low = Some(((**low).clone(), true));
                bounds.high = Some(((**high).clone(), true));
                used.push(index);
            }
            _ => {}
        }
    }
}

impl Access {
    /// Whether the rows are found by their full keys.
    pub fn is_points(&self) -> bool {
        matches!(self.path, Path::Points(_))
    }

    /// Whether the rows come in an order anyway, and if so whether backwards.
    pub fn provides(&self, order: &[SortKey]) -> Option<bool> {
        let key = self.table.key_ordinals();
        let is_fixed = |place: usize| match &self.path {
            Path::Points(keys) => keys.get(place).is_some_and(|values| values.len() == 1),
            Path::Scan(bounds) => place < bounds.prefix.len(),
        };
        let mut place = 0;
        let mut direction = None;
        for wanted in order {
            let Expr::Column(ordinal) = wanted.expr else { return None };
            if key.iter().enumerate().any(|(i, o)| *o == ordinal && (is_fixed(i) || i < place)) {
                continue;
            }
            while place < key.len() && is_fixed(place) {
                place += 1;
            }
            match key.get(place) {
                // The whole key is ordered, and it is unique: nothing further matters.
                None => break,
                Some(next) if *next == ordinal && direction.is_none_or(|d| d == wanted.descending) => {
                    direction = Some(wanted.descending);
                    place += 1;
                }
                Some(_) => return None,
            }
        }
        Some(direction.unwrap_or(false))
    }

    /// The leaf, and a filter above it if something remains to be checked.
    pub fn into_node(self, lock: bool, reverse: bool) -> Node {
        let table = self.table;
        let leaf = match self.path {
            Path::Points(keys) => Node::Points { table, keys, lock, reverse },
            Path::Scan(bounds) => Node::Scan { table, bounds, reverse },
        };
        match Expr::all_of(self.residual) {
            Some(predicate) => Node::Filter { input: Box::new(leaf), predicate },
            None => leaf,
        }
    }
}
