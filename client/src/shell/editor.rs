//! The line editor, on a thread of its own because reading keys blocks.

use std::path::PathBuf;
use std::sync::mpsc as blocking;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Helper};
use tokio::sync::mpsc;

use super::complete::{LOOKUP_TIMEOUT, Lookup, word_before};

/// Inputs that are remembered from one run of the shell to the next.
const HISTORY_ENTRIES_MAX: usize = 10_000;

/// What the person at the terminal did.
pub enum Event {
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D.
    End,
    Failed(String),
    /// The Tab key: names are wanted.
    Lookup(Lookup),
}

enum Task {
    Prompt(String),
    Remember(String),
}

/// A handle on the editor's thread.
pub struct Editor {
    tasks: blocking::Sender<Task>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Editor {
    /// Takes over the terminal.
    pub fn start() -> rustyline::Result<Editor> {
        let config = Config::builder()
            .max_history_size(HISTORY_ENTRIES_MAX)?
            .history_ignore_dups(true)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = rustyline::Editor::<Assistant, DefaultHistory>::with_config(config)?;
        let (tasks, queue) = blocking::channel();
        let (sender, events) = mpsc::unbounded_channel();
        editor.set_helper(Some(Assistant { events: sender.clone() }));
        let history = history_path();
        if let Some(path) = &history {
            // A first run has no history yet; one that cannot be read is no reason not to start.
            let _ = editor.load_history(path);
        }
        std::thread::spawn(move || serve(editor, history, queue, sender));
        Ok(Editor { tasks, events })
    }

    /// Asks for a line. [`Editor::next`] delivers it.
    pub fn prompt(&self, prompt: &str) {
        self.send(Task::Prompt(prompt.to_string()));
    }

    /// Adds an input to the history.
    pub fn remember(&self, input: String) {
        self.send(Task::Remember(input));
    }

    pub async fn next(&mut self) -> Event {
        self.events.recv().await.unwrap_or(Event::End)
    }

    fn send(&self, task: Task) {
        // The thread ends only after it has told why; next() delivers that.
        let _ = self.tasks.send(task);
    }
}

fn serve(
    mut editor: rustyline::Editor<Assistant, DefaultHistory>,
    history: Option<PathBuf>,
    tasks: blocking::Receiver<Task>,
    events: mpsc::UnboundedSender<Event>,
) {
    while let Ok(task) = tasks.recv() {
        let event = match task {
            Task::Remember(input) => {
                remember(&mut editor, history.as_ref(), input.trim_end());
                continue;
            }
            Task::Prompt(prompt) => match editor.readline(&prompt) {
                Ok(line) => Event::Line(line),
                Err(ReadlineError::Interrupted) => Event::Interrupted,
                Err(ReadlineError::Eof) => Event::End,
                Err(error) => Event::Failed(error.to_string()),
            },
        };
        if events.send(event).is_err() {
            return;
        }
    }
}

/// A history that cannot be written is no reason to stop working.
fn remember(editor: &mut rustyline::Editor<Assistant, DefaultHistory>, path: Option<&PathBuf>, input: &str) {
    let added = !input.is_empty() && editor.add_history_entry(input).unwrap_or(false);
    if let (true, Some(path)) = (added, path) {
        let _ = editor.append_history(path);
    }
}

/// `$XDG_STATE_HOME/meridian/history` if that variable is set, else `~/.meridian_history`.
fn history_path() -> Option<PathBuf> {
    if let Some(state) = std::env::var_os("XDG_STATE_HOME").filter(|s| !s.is_empty()) {
        let folder = PathBuf::from(state).join("meridian");
        std::fs::create_dir_all(&folder).ok()?;
        return Some(folder.join("history"));
    }
    std::env::home_dir().map(|home| home.join(".meridian_history"))
}

/// What rustyline asks while a line is edited.
struct Assistant {
    events: mpsc::UnboundedSender<Event>,
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, word) = word_before(line, pos);
        let (reply, answer) = blocking::channel();
        let lookup = Lookup { line: line.to_string(), word: word.to_string(), reply };
        if self.events.send(Event::Lookup(lookup)).is_err() {
            return Ok((start, Vec::new()));
        }
        // No candidates is better than a terminal that hangs.
        let candidates = answer.recv_timeout(LOOKUP_TIMEOUT).unwrap_or_default();
        let pair = |name: String| Pair { display: name.clone(), replacement: name };
        Ok((start, candidates.into_iter().map(pair).collect()))
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Validator for Assistant {}

impl Helper for Assistant {}
