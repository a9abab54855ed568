//! Where lines of input come from.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use tokio::sync::mpsc;

/// Lines read ahead from a pipe.
const LINES_AHEAD_MAX: usize = 64;

/// Lines of a script.
pub enum Lines {
    Text(std::vec::IntoIter<String>),
    File(io::Lines<BufReader<File>>),
    /// From a thread that may block on a pipe whose other end is in no hurry.
    Stdin(mpsc::Receiver<io::Result<String>>),
}

impl Lines {
    pub fn text(text: &str) -> Lines {
        Lines::Text(text.lines().map(str::to_string).collect::<Vec<_>>().into_iter())
    }

    pub fn file(path: &Path) -> io::Result<Lines> {
        Ok(Lines::File(BufReader::new(File::open(path)?).lines()))
    }

    pub fn stdin() -> Lines {
        let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
        std::thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Lines::Stdin(receiver)
    }

    pub async fn next(&mut self) -> Option<io::Result<String>> {
        match self {
            Lines::Text(lines) => lines.next().map(Ok),
            Lines::File(lines) => lines.next(),
            Lines::Stdin(lines) => lines.recv().await,
        }
    }
}
