//! A test: every statement begins with its name, and every operation has the name of one of its statements.
//!
//! The name of an operation is in logs; that of a statement is what `pg_stat_activity` shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Returns the texts that follow `start`, up to the closing character.
fn after<'a>(text: &'a str, start: &str, end: char) -> Vec<&'a str> {
    text.split(start).skip(1).map(|rest| rest.split(end).next().unwrap_or_default()).collect()
}

#[test]
fn operations_and_statements_have_names() {
    let mut found = Vec::new();
    files(Path::new("src"), &mut found);
    let (mut statements, mut operations) = (BTreeSet::new(), BTreeSet::new());
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        // The embedded server runs programs, not statements.
        if name == "names" || path.iter().any(|part| part == "embedded") {
            continue;
        }
        if path.extension().is_some_and(|extension| extension == "sql") {
            assert_eq!(text.lines().next(), Some(&*format!("-- {name}")), "{}", path.display());
            statements.insert(name.to_owned());
            continue;
        }
        for method in [".run(", ".run_by_key(", ".read(", "about_orders(store, "] {
            operations.extend(after(&text, &format!("{method}\""), '"').into_iter().map(str::to_owned));
        }
        // Statements that are put together.
        statements.extend(
            after(&text, "format!(\n", '\n')
                .into_iter()
                .filter_map(|line| line.trim_start().strip_prefix("\"-- ").map(str::to_owned)),
        );
        // The text of each statement that is not in a file: what stands between the first quotes of the call.
        for call in ["query!(", "query_scalar!(", "query_as!("] {
            for statement in text.split(call).skip(1) {
                let sql = statement.split('"').nth(1).unwrap();
                let name = sql.strip_prefix("-- ").and_then(|rest| rest.split(['\n', '\\']).next());
                let name = name.unwrap_or_else(|| panic!("{}: a statement without a name: {sql}", path.display()));
                statements.insert(name.to_owned());
            }
        }
    }
    let unknown: Vec<_> = operations.difference(&statements).collect();
    assert!(operations.len() > 30 && unknown.is_empty(), "operations without a statement of that name: {unknown:?}");
}
