//! House rules, as tests. What they are for is told in `docs/architecture.md` and `docs/testing.md`.
//!
//! The rules are about text: source files, manifests and documents. Where a rule has exceptions they stand in a table here, with what
//! each is today; an entry that has become too generous fails as well, so that the tables can only shrink.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file before its tests.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer, with their lines.
const LONGER_FILES: &[(&str, usize)] = &[];

/// Functions that are longer, with their lines.
const LONGER_FUNCTIONS: &[(&str, usize)] = &[];

/// Which of our crates each of them may depend on.
const CRATES: [(&str, &[&str]); 6] = [
    ("proto", &[]),
    ("txn", &["proto"]),
    ("range-split", &["proto"]),
    ("client", &["proto"]),
    ("server", &["proto", "txn", "range-split", "client"]),
    ("cluster-tests", &["proto", "txn", "range-split", "client", "server"]),
];

/// Which other modules of the server each of them may name. Nobody may name `cli`.
const MODULES: [(&str, &[&str]); 17] = [
    ("raft", &[]),
    ("range", &["raft", "config", "env", "probe"]),
    ("store", &["range", "raft", "config", "env", "probe"]),
    ("kv", &["store", "config", "env", "probe"]),
    ("sql", &["kv"]),
    ("edge", &["sql", "kv"]),
    ("grpc", &["edge", "sql", "kv"]),
    ("pgwire", &["edge", "sql", "kv"]),
    ("io", &["kv", "store", "raft", "env"]),
    ("env", &[]),
    ("probe", &[]),
    ("config", &["probe"]),
    ("telemetry", &[]),
    ("admin", &["kv", "config", "env", "probe"]),
    ("recovery", &["sql", "kv", "range", "raft", "config", "env"]),
    (
        "node",
        &[
            "grpc",
            "pgwire",
            "edge",
            "sql",
            "kv",
            "store",
            "range",
            "raft",
            "io",
            "admin",
            "recovery",
            "env",
            "config",
            "telemetry",
        ],
    ),
    ("cli", &["node", "recovery", "telemetry", "config"]),
];

/// The world: clocks, dice, disks, sockets, threads, and the libraries that bring them.
const WORLD: [&str; 15] = [
    "tokio",
    "tokio_stream",
    "tokio_util",
    "tonic",
    "axum",
    "rocksdb",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "SystemTime",
    "Instant",
    "thread_rng",
    "RandomState",
    "new_v4",
];

/// The modules of the server that may touch it: the shell around the core.
const SHELL: [&str; 8] = ["io", "node", "cli", "telemetry", "grpc", "pgwire", "edge", "main"];

/// A file of the repository.
struct Source {
    /// From the repository's root, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The lines of code, numbered from one: without comments, and without what a line of code says in a string.
    fn code(&self) -> impl Iterator<Item = (usize, String)> + '_ {
        self.text.lines().enumerate().map(|(n, line)| (n + 1, code_of(line)))
    }

    /// The module of the server that the file belongs to.
    fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("server/src/")?;
        rest.split(['/', '.']).next()
    }
}

/// A line without its comment and its strings. Literals over several lines are rare enough here to be taken for code.
fn code_of(line: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => {}
            c => out.push(c),
        }
    }
    out
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    root.to_path_buf()
}

/// Every file with one of these endings, in order; without build output and hidden folders.
fn files(endings: &[&str]) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the repository can be read") {
            let path = entry.expect("the repository can be read").path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let relative = path.strip_prefix(&root).expect("found below the root").display().to_string();
                let text = fs::read_to_string(&path).expect("sources are text");
                found.push(Source { path: relative.replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "there are files that end in {endings:?}");
    found
}

/// Fails with all complaints at once.
fn judge(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}\n  {}\n", complaints.join("\n  "));
}

/// Whether a word stands in a text, and not as a part of another.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(part) && !text[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn crates_depend_in_one_direction() {
    let mut complaints = Vec::new();
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("each crate has a manifest");
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let ours = CRATES.iter().any(|(other, _)| *other == dependency);
            // A crate's tests may use the crate itself.
            let itself = section == "[dev-dependencies]" && dependency == name;
            if section.ends_with("dependencies]") && ours && !allowed.contains(&dependency) && !itself {
                complaints.push(format!("{name} depends on {dependency}"));
            }
        }
    }
    judge(
        "the crates' order is proto, then txn and range-split and client, then server, then cluster-tests",
        &complaints,
    );
}

/// The modules that a line of code names as `crate::module`.
fn named_modules(line: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, start) in line.match_indices("crate::") {
        let rest = &line[at + start.len()..];
        // `use crate::{a, b}` would hide from this test what it names.
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        found.insert(if rest.starts_with('{') { "{".into() } else { rest[..end].to_string() });
    }
    found
}

#[test]
fn modules_of_the_server_depend_in_one_direction() {
    let allowed: BTreeMap<&str, &[&str]> = MODULES.into_iter().collect();
    let mut complaints = Vec::new();
    for source in files(&[".rs"]) {
        let Some(module) = source.module().filter(|m| *m != "lib" && *m != "main") else { continue };
        let Some(allowed) = allowed.get(module) else {
            complaints.push(format!("{}: the module {module} is not in the table", source.path));
            continue;
        };
        for (n, line) in source.code() {
            for named in named_modules(&line) {
                if named != module && !allowed.contains(&named.as_str()) {
                    complaints.push(format!("{}:{n}: {module} names {named}", source.path));
                }
            }
        }
    }
    judge("modules name only what lies below them", &complaints);
}

/// Whether a file belongs to the pure core.
fn is_core(source: &Source) -> bool {
    let pure_crate = source.path.starts_with("txn/src/") || source.path.starts_with("range-split/src/");
    pure_crate || source.module().is_some_and(|m| m != "lib" && !SHELL.contains(&m))
}

#[test]
fn only_the_shell_touches_the_world() {
    let mut complaints = Vec::new();
    for source in files(&[".rs"]).iter().filter(|s| is_core(s)) {
        for (n, line) in source.code() {
            for word in WORLD.iter().filter(|word| has_word(&line, word)) {
                complaints.push(format!("{}:{n}: {word}", source.path));
            }
        }
    }
    judge("clocks, dice, disks, sockets and threads come in through crate::env", &complaints);
}

#[test]
fn the_core_keeps_its_maps_ordered() {
    let mut complaints = Vec::new();
    for source in files(&[".rs"]).iter().filter(|s| is_core(s)) {
        for (n, line) in source.code() {
            if has_word(&line, "HashMap") || has_word(&line, "HashSet") {
                complaints.push(format!("{}:{n}", source.path));
            }
        }
    }
    judge("the iteration order of a hash map differs from run to run: use BTreeMap and BTreeSet", &complaints);
}

#[test]
fn no_state_is_global() {
    const STATE: [&str; 7] = ["Mutex", "RwLock", "OnceLock", "LazyLock", "RefCell", "Cell", "Atomic"];
    let mut complaints = Vec::new();
    for source in files(&[".rs"]).iter().filter(|s| s.path.contains("/src/")) {
        for (n, line) in source.code() {
            let declared = line.trim_start().trim_start_matches("pub ");
            let holds_state = declared.starts_with("static ") && STATE.iter().any(|word| declared.contains(word));
            if holds_state || declared.starts_with("static mut ") || declared.contains("thread_local!") {
                complaints.push(format!("{}:{n}", source.path));
            }
        }
    }
    judge("a node can be started many times in one process: its state is its own", &complaints);
}

#[test]
fn generated_types_stay_at_the_edges() {
    const EDGES: [&str; 4] = ["grpc", "io", "node", "cli"];
    let mut complaints = Vec::new();
    for source in files(&[".rs"]) {
        let edge = source.module().is_some_and(|m| EDGES.contains(&m));
        if edge
            || source.path.starts_with("client/")
            || source.path.starts_with("proto/")
            || source.path.contains("/tests/")
        {
            continue;
        }
        for (n, line) in source.code() {
            if line.contains("proto::v1") || (line.contains("use proto::{") && has_word(&line, "v1")) {
                complaints.push(format!("{}:{n}", source.path));
            }
        }
    }
    judge("types generated from protobuf are turned into our own where they come in", &complaints);
}

#[test]
fn only_the_command_line_uses_the_driver() {
    let mut complaints = Vec::new();
    for source in files(&[".rs"]) {
        if source.module().is_none_or(|m| m == "cli") {
            continue;
        }
        for (n, line) in source.code() {
            // Generated modules end in _client.
            if line.match_indices("client::").any(|(at, _)| !line[..at].ends_with(['_', ':'])) {
                complaints.push(format!("{}:{n}", source.path));
            }
        }
    }
    judge("within the server only cli uses the crate client", &complaints);
}

/// Compares what is too long with a table of what is known to be.
fn judge_lengths(what: &str, max: usize, found: &BTreeMap<String, usize>, known: &[(&str, usize)]) {
    let mut complaints = Vec::new();
    let known: BTreeMap<&str, usize> = known.iter().copied().collect();
    for (name, lines) in found.iter().filter(|(_, lines)| **lines > max) {
        match known.get(name.as_str()) {
            None => complaints.push(format!("{name} has {lines} lines: split it")),
            Some(limit) if lines > limit => complaints.push(format!("{name} has grown from {limit} lines to {lines}")),
            Some(limit) if lines < limit => {
                complaints.push(format!("{name} has shrunk to {lines} lines: lower its entry from {limit}"))
            }
            Some(_) => {}
        }
    }
    for name in known.keys().filter(|name| found.get(**name).is_none_or(|lines| *lines <= max)) {
        complaints.push(format!("{name} is short enough now, or gone: remove its entry"));
    }
    judge(&format!("{what} have at most {max} lines"), &complaints);
}

#[test]
fn files_are_short() {
    let lines = |s: &Source| s.text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    let found = files(&[".rs"]).iter().map(|s| (s.path.clone(), lines(s))).collect();
    judge_lengths("files, before their tests,", FILE_LINES_MAX, &found, LONGER_FILES);
}

/// The functions of a formatted file, with their lines from the signature to the closing brace.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(position) = code_of(line).find("fn ").filter(|p| *p == 0 || line.as_bytes()[p - 1] == b' ') else {
            continue;
        };
        let rest = &line[position + 3..];
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        // A body on one line, or a declaration without one, is short.
        let ends_here = |l: &str| l.trim_end() == closing;
        let declaration = |l: &str| l.len() - l.trim_start().len() <= indent && l.trim_end().ends_with(';');
        for (further, line) in lines[at..].iter().enumerate() {
            if ends_here(line) {
                found.push((format!("{}: {name}", source.path), further + 1));
                break;
            }
            if declaration(line) || (further == 0 && line.trim_end().ends_with('}')) {
                break;
            }
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for source in files(&[".rs"]) {
        for (name, lines) in functions(&source) {
            let longest = found.entry(name).or_default();
            *longest = lines.max(*longest);
        }
    }
    judge_lengths("functions", FUNCTION_LINES_MAX, &found, LONGER_FUNCTIONS);
}

#[test]
fn files_say_what_they_are_for() {
    let silent = |s: &&Source| !s.text.starts_with("//!") && s.path != "build.rs";
    let complaints: Vec<String> = files(&[".rs"]).iter().filter(silent).map(|s| s.path.clone()).collect();
    judge("a Rust file opens with a comment `//!` that says what it is for", &complaints);
}

#[test]
fn nothing_is_left_for_later() {
    // Written in parts, so that this file does not find itself.
    let words = [
        concat!("todo", "!"),
        concat!("unimplemented", "!"),
        concat!("dbg", "!"),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
    ];
    let mut complaints = Vec::new();
    for source in files(&[".rs", ".md", ".proto", ".toml"]) {
        for (n, line) in source.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{}:{}: {word}", source.path, n + 1));
            }
        }
    }
    judge("what is missing is done, or told in a module's text; not marked", &complaints);
}

/// The targets of a document's links.
fn links(text: &str) -> Vec<String> {
    let ends = |rest: &str| rest.find(')').map(|end| rest[..end].to_string());
    text.match_indices("](").filter_map(|(at, start)| ends(&text[at + start.len()..])).collect()
}

#[test]
fn links_lead_somewhere() {
    let root = root();
    let mut complaints = Vec::new();
    for source in files(&[".md"]) {
        let folder = root.join(&source.path).parent().expect("a file lies in a folder").to_path_buf();
        for link in links(&source.text) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !folder.join(target).exists() {
                complaints.push(format!("{}: {link}", source.path));
            }
        }
    }
    judge("links in documents lead to files that exist", &complaints);
}

#[test]
fn documents_name_code_that_exists() {
    let root = root();
    let mut complaints = Vec::new();
    for source in files(&[".md"]).iter().filter(|s| s.path.starts_with("docs/") || s.path == "README.md") {
        // Between backquotes: what looks like a path into one of the crates.
        for quoted in source.text.split('`').skip(1).step_by(2) {
            let path = quoted.trim_end_matches('/');
            let ours = CRATES.iter().any(|(name, _)| path.starts_with(&format!("{name}/")));
            if ours && !path.contains(['*', ' ', '<', '{']) && !root.join(path).exists() {
                complaints.push(format!("{}: {quoted}", source.path));
            }
        }
    }
    judge("paths in documents exist", &complaints);
}

#[test]
fn scripts_begin_with_their_claim() {
    let root = root();
    let mut complaints = Vec::new();
    for (name, _) in CRATES {
        let mut folders = vec![root.join(name).join("scripts")];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.expect("the scripts can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else if !fs::read_to_string(&path).expect("scripts are text").starts_with("# ") {
                    complaints.push(path.display().to_string());
                }
            }
        }
    }
    judge("a golden script's first line is a comment that says what it claims", &complaints);
}

#[test]
fn the_rules_see_what_they_look_for() {
    assert_eq!(code_of(r#"let a = "tokio // \"x"; // tokio"#), "let a = ; ");
    assert_eq!(
        named_modules("use crate::kv::Kv; crate::{io, sql}"),
        BTreeSet::from(["kv".to_string(), "{".to_string()])
    );
    assert!(has_word("let now = Instant::now();", "Instant") && !has_word("Instantly", "Instant"));
    let text = "impl A {\n    fn short(&self) -> u8 { 1 }\n    fn long(\n        &self,\n    ) {\n        if true {\n        }\n    }\n}\n";
    let source = Source { path: "a.rs".into(), text: text.into() };
    assert_eq!(functions(&source), [("a.rs: long".to_string(), 6)]);
    assert_eq!(links("see [a](b.md#c) and [d](e)"), ["b.md#c", "e"]);
}
