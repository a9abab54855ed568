//! Runs that once found something, shrunk to what they need: they find nothing now.

use std::path::{Path, PathBuf};

use cluster_tests::scenario::attempt;
use cluster_tests::script::Script;

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "script"));
    paths.sort();
    paths
}

#[test]
fn what_was_found_once_is_gone() {
    let mut found = Vec::new();
    for path in scripts() {
        let text = std::fs::read_to_string(&path).expect("scripts are text");
        let script = Script::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        assert!(text.starts_with("# "), "{}: the first line says what was found", path.display());
        let verdict = attempt(script.work, script.options()).verdict;
        if verdict.failure.is_some() {
            found.push(format!("{}: {}", path.display(), verdict.violations.join("; ")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
