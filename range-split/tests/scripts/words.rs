//! The words that all scripts share: how they write arguments and spans.

use std::error::Error;
use std::str::FromStr;

use goldenscript::{Argument, Command};
use proto::Span;

pub type Output = Result<String, Box<dyn Error>>;

/// A command's arguments.
pub struct Args<'a> {
    pub words: Vec<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Args<'a> {
    pub fn of(command: &'a Command) -> Args<'a> {
        let mut args = Args { words: Vec::new(), pairs: Vec::new() };
        for arg in &command.args {
            match arg {
                Argument::Positional(value) => args.words.push(value),
                Argument::KeyValue(key, value) => args.pairs.push((key, value)),
                other => panic!("an argument of a new kind: {other}"),
            }
        }
        args
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// A named argument.
    pub fn named<T: FromStr>(&self, name: &str) -> Result<Option<T>, Box<dyn Error>> {
        let read = |text: &str| text.parse().map_err(|_| format!("{name}={text} cannot be read").into());
        self.text(name).map(read).transpose()
    }

    /// A named argument, put where it belongs if it is given.
    pub fn set<T: FromStr>(&self, name: &str, to: &mut T) -> Result<(), Box<dyn Error>> {
        if let Some(value) = self.named(name)? {
            *to = value;
        }
        Ok(())
    }

    /// A word, as a number; a letter before it is not looked at.
    pub fn number(&self, at: usize) -> Result<u64, Box<dyn Error>> {
        let word = self.words.get(at).ok_or("an argument is missing")?;
        number(word)
    }
}

pub fn number(word: &str) -> Result<u64, Box<dyn Error>> {
    Ok(word.trim_start_matches(|c: char| c.is_alphabetic()).parse()?)
}

pub fn span(text: &str) -> Span {
    match text.split_once("..") {
        Some((start, end)) => Span::new(start, end),
        None => Span::point(&proto::Key::from(text)),
    }
}
