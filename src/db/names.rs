//! Tests of the sources: every statement begins with its name, every operation has the name of one of its statements,
//! and the lists of columns agree.
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
        if ["names", "columns"].contains(&name) || path.iter().any(|part| part == "embedded") {
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

/// The columns of a statement have the names that the code gives them, in the same order.
#[test]
fn columns_are_passed_in_the_order_of_the_statement() {
    let mut found = Vec::new();
    files(Path::new("src/db"), &mut found);
    let mut calls = 0;
    for path in found.iter().filter(|path| !path.ends_with("columns.rs") && !path.ends_with("names.rs")) {
        let text = fs::read_to_string(path).unwrap();
        for call in text.split("query_columns!(\n").skip(1) {
            let call = &call[..call.find("\n    )\n").unwrap()];
            let file = call.split('"').nth(1).unwrap();
            let passed: Vec<&str> =
                call.lines().filter_map(|line| line.trim().split_once(": &[")).map(|(name, _)| name).collect();
            let statement = fs::read_to_string(file).unwrap();
            let mut named: Vec<&str> = Vec::new();
            for unnest in statement.split("unnest(").skip(1).filter(|unnest| unnest.trim_start().starts_with('$')) {
                let columns =
                    unnest.split_once(" AS ").unwrap().1.split_once('(').unwrap().1.split(')').next().unwrap();
                named.extend(columns.split(',').map(str::trim));
            }
            assert_eq!(passed, named, "{} and {file}", path.display());
            calls += 1;
        }
    }
    assert!(calls >= 8, "{calls}");
}

/// A message field has a column in both statements that write messages.
#[test]
fn new_and_known_messages_have_the_same_columns() {
    let add = fs::read_to_string("src/db/chat/add.rs").unwrap();
    let merge = fs::read_to_string("src/db/chat/merge.rs").unwrap();
    let names = |call: &str, separator: &str| -> BTreeSet<String> {
        let lines = call.lines().filter_map(|line| line.trim().split_once(separator));
        lines.map(|(name, _)| name.to_owned()).filter(|name| !name.contains([' ', '"', '('])).collect()
    };
    let added = names(after(&add, "\"chat.messages\"", '}')[0], " = ");
    let mut merged = names(after(&merge, "upsert_messages.sql\"", ';')[0], ": &[");
    // PostgreSQL computes it.
    merged.insert("body_length".to_owned());
    assert!(added.len() > 15 && added == merged, "{added:?} {merged:?}");
    let conversation = fs::read_to_string("src/domain/conversation.rs").unwrap();
    let message = after(&conversation, "pub struct Message {", '}')[0];
    let fields = message.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    let mut decoded: BTreeSet<String> =
        fields.map(|field| if field == "id" { "message_id" } else { field }.to_owned()).collect();
    decoded.extend(["order_id".to_owned(), "body_length".to_owned()]);
    assert_eq!(decoded, added);
    let mut found = Vec::new();
    files(Path::new("migrations"), &mut found);
    let migrations: String = found.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let documented = after(&migrations, "COMMENT ON COLUMN chat.messages.", ' ');
    let written_by_default = ["first_synced_at", "updated_at", "removed_at"];
    let known = documented.into_iter().filter(|column| !written_by_default.contains(column)).map(str::to_owned);
    assert_eq!(known.collect::<BTreeSet<_>>(), added);
    // A field that can be decoded again leaves extra, except the id, which a message cannot lack.
    let list = fs::read_to_string("src/connect/reply/message.rs").unwrap();
    let statement = fs::read_to_string("src/db/sql/upsert_messages.sql").unwrap();
    let names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" => "))
        .map(|(name, _)| name)
        .collect();
    let forgotten: Vec<_> =
        names.iter().filter(|name| **name != "id" && !statement.contains(&format!("THEN '{name}' END"))).collect();
    assert!(names.len() > 10 && forgotten.is_empty(), "{forgotten:?}");
}
