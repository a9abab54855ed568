//! Errors, as they are shown to people.

use std::fmt::Write;

use super::interpreter::Stop;
use super::options::Exit;
use crate::driver::Error;

/// The most of a line that is shown around the place of an error.
const EXCERPT_CHARS_MAX: usize = 100;

/// Prints why the shell stopped, to standard error, and says with what it is to exit.
pub fn print_stop(stop: &Stop) -> Exit {
    match stop {
        Stop::Quit => Exit::Success,
        // Whoever read the output has gone; there is nobody to tell.
        Stop::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Failed,
        Stop::Output(error) => {
            eprintln!("ERROR: cannot write the output: {error}");
            Exit::Failed
        }
        Stop::Input { message, place } => {
            eprintln!("{}ERROR: {message}", prefix(place));
            Exit::Failed
        }
        Stop::Statement { error, .. } if is_unreachable(error) => {
            eprintln!("ERROR: {}", error.message());
            Exit::Unreachable
        }
        Stop::Statement { error, sql, place, lost } => {
            eprint!("{}{}", prefix(place), describe(error, sql));
            if let Some(lost) = lost {
                eprintln!("{lost}");
            }
            Exit::Failed
        }
    }
}

pub fn is_unreachable(error: &Error) -> bool {
    error.sqlstate() == "08001"
}

fn prefix(place: &Option<String>) -> String {
    place.as_ref().map_or(String::new(), |place| format!("{place}: "))
}

/// An error with everything that is known of it, a line each.
pub fn describe(error: &Error, sql: &str) -> String {
    let mut text = format!("ERROR: {}\n", error.message());
    if let Some(position) = error.position() {
        text.push_str(&point_at(sql, position as usize));
    }
    for (name, value) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(value) = value {
            writeln!(text, "{name}: {value}").expect("writing to a string cannot fail");
        }
    }
    writeln!(text, "SQLSTATE: {}", error.sqlstate()).expect("writing to a string cannot fail");
    text
}

/// The line of the statement that holds the position (in characters from 1), and a caret below it.
fn point_at(sql: &str, position: usize) -> String {
    let before: Vec<char> = sql.chars().take(position - 1).collect();
    let line_number = before.iter().filter(|&&c| c == '\n').count() + 1;
    let column = before.iter().rev().take_while(|&&c| c != '\n').count();
    let Some(line) = sql.lines().nth(line_number - 1) else {
        return String::new();
    };
    // A tab would put the caret elsewhere than its character.
    let line: Vec<char> = line.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let skipped = column.saturating_sub(EXCERPT_CHARS_MAX * 2 / 3);
    let end = line.len().min(skipped + EXCERPT_CHARS_MAX);
    let excerpt: String = line[skipped.min(end)..end].iter().collect();
    let (left, right) = (if skipped > 0 { "..." } else { "" }, if end < line.len() { "..." } else { "" });
    let lead = format!("LINE {line_number}: {left}");
    let indent = " ".repeat(lead.chars().count() + column - skipped);
    format!("{lead}{excerpt}{right}\n{indent}^\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_character() {
        assert_eq!(point_at("SELECT x FROM t", 8), "LINE 1: SELECT x FROM t\n               ^\n");
        assert_eq!(point_at("SELECT 1,\n\tü, x\nFROM t", 15), "LINE 2:  ü, x\n            ^\n");
        assert_eq!(point_at("SELECT", 7), "LINE 1: SELECT\n              ^\n");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let sql = format!("SELECT {}x{}", "1, ".repeat(100), ", 2".repeat(100));
        let text = point_at(&sql, 308);
        let (line, caret) = text.trim_end().split_once('\n').unwrap();
        assert!(line.len() < 130 && line.contains("...") && line.ends_with("..."));
        assert_eq!(line.as_bytes()[caret.len() - 1], b'x');
    }
}
