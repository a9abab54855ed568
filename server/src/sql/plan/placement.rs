//! Options of tables: where their rows are to stand.

use proto::PlacementRules;
use proto::placement::RulesError;
use sqlparser::ast;

use super::super::error::{Error, Result, state};
use super::super::expr::bind::normalize;
use super::super::parser::Locator;
use super::session::set_value;

/// Options with their new texts; without one, an option goes back to its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacementChanges(Vec<(String, Option<String>)>);

impl PlacementChanges {
    /// Reads options of a statement.
    ///
    /// # Errors
    /// `22023` for options that there are not, or that nothing can keep.
    pub fn read(options: &[(ast::Ident, Option<ast::Expr>)], locator: &Locator) -> Result<PlacementChanges> {
        let mut changes: Vec<(String, Option<String>)> = Vec::with_capacity(options.len());
        for (name, value) in options {
            let option = normalize(name);
            let position = locator.position(name.span);
            if changes.iter().any(|(known, _)| *known == option) {
                let message = format!("parameter \"{option}\" specified more than once");
                return Err(Error::new(state::INVALID_PARAMETER, message).at(position));
            }
            let text = value.as_ref().map(set_value).transpose().map_err(|e| e.at(position))?.flatten();
            let text = text.filter(|text| !text.trim().is_empty());
            // Whether the option can be read at all does not depend on the others.
            let alone = PlacementRules::default().with_option(&option, text.as_deref().unwrap_or_default());
            alone.map_err(|e| refused(&e).at(position))?;
            changes.push((option, text));
        }
        Ok(PlacementChanges(changes))
    }

    /// The rules after the changes; nothing if no wish is left.
    ///
    /// # Errors
    /// `22023` when they contradict each other or what stays.
    pub fn apply(&self, rules: Option<&PlacementRules>) -> Result<Option<PlacementRules>> {
        let mut rules = rules.cloned().unwrap_or_default();
        // What is to be replaced goes first, so that it contradicts nothing.
        let unset = self.0.iter().map(|(name, _)| (name, ""));
        let set = self.0.iter().filter_map(|(name, text)| text.as_deref().map(|text| (name, text)));
        for (name, text) in unset.chain(set) {
            rules = rules.with_option(name, text).map_err(|e| refused(&e))?;
        }
        Ok(Some(rules).filter(|rules| *rules != PlacementRules::default()))
    }
}

fn refused(error: &RulesError) -> Error {
    Error::new(state::INVALID_PARAMETER, error.to_string()).hint(
        "Write, for example, (replicas = 5, constraints = '+region=eu,-zone=b', leader_preference = 'region=eu', \
         non_voters = 'region=us:1').",
    )
}
