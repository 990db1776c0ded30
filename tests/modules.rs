//! No two modules of `src/` import each other, not even through a third.
//!
//! Reads the sources as tokens and resolves every path that begins with `crate`, `super`, `self`, a child module or an
//! imported module. What a `mod.rs` re-exports counts as the file that defines it, and `mod x;` counts as nothing. So a
//! `mod.rs` that declares and re-exports is in no circle; one that defines what its children import is. Tests are
//! exempt.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn no_file_imports_a_file_that_imports_it() {
    let imports = Crate::read().imports();
    assert!(imports.contains_key("src/lib.rs"), "the sources were not found");
    let circles = circles(&imports);
    assert!(circles.is_empty(), "files import each other:\n{circles}");
}

#[test]
fn no_top_level_module_imports_one_that_imports_it() {
    let top = |file: &str| {
        let name = file.trim_start_matches("src/").trim_end_matches(".rs");
        name.split('/').next().unwrap_or_default().to_owned()
    };
    let mut imports = Imports::new();
    for (from, to) in Crate::read().imports() {
        let merged = imports.entry(top(&from)).or_default();
        for (to, names) in to {
            if top(&to) != top(&from) {
                merged.entry(top(&to)).or_default().extend(names);
            }
        }
    }
    let circles = circles(&imports);
    assert!(circles.is_empty(), "top-level modules import each other:\n{circles}");
}

#[test]
fn a_circle_is_found() {
    let sources = [
        ("src/lib.rs", "mod a; mod b; mod c;"),
        ("src/a/mod.rs", "mod low; mod high; pub use low::Low; pub struct Own;"),
        ("src/a/low.rs", "/* use super::high::High; */ #[cfg(test)] mod tests { use super::super::high::High; }"),
        ("src/a/high.rs", "use super::{Low, Own}; const X: &str = \"crate::b::B\";"),
        ("src/b.rs", "use crate::c::{self as other, C}; pub(in crate::a) fn b() -> char { other::c::<'x'>('\\'') }"),
        ("src/c.rs", "fn c<'a>(b: &'a crate::b::B) {}"),
    ];
    let imports = Crate::of(sources.map(|(file, text)| (file.to_owned(), text.to_owned()))).imports();
    let found: Vec<String> =
        imports.iter().flat_map(|(from, to)| to.keys().map(move |to| format!("{from} {to}"))).collect();
    let expected = [
        "src/a/high.rs src/a/low.rs",
        "src/a/high.rs src/a/mod.rs",
        "src/a/mod.rs src/a/low.rs",
        "src/b.rs src/c.rs",
        "src/c.rs src/b.rs",
    ];
    assert_eq!(found, expected);
    assert_eq!(circles(&imports), "  src/b.rs -> src/c.rs (C, c)\n  src/c.rs -> src/b.rs (B)\n");
}

/// For each file the files that it imports, with the names of the items.
type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Returns the imports that are part of a circle, one per line.
fn circles(imports: &Imports) -> String {
    let reach: BTreeMap<&str, _> = imports.keys().map(|file| (file.as_str(), reachable(imports, file))).collect();
    let mut lines = String::new();
    for (from, to) in imports {
        for (to, names) in to {
            if reach.get(to.as_str()).is_some_and(|reach| reach.contains(from.as_str())) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                lines.extend(["  ", from, " -> ", to, " (", &names.join(", "), ")\n"]);
            }
        }
    }
    lines
}

fn reachable<'a>(imports: &'a Imports, start: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(file) = open.pop() {
        let targets = imports.get(file).into_iter().flat_map(BTreeMap::keys).map(String::as_str);
        open.extend(targets.filter(|target| seen.insert(*target)));
    }
    seen
}

/// A path of modules below the crate.
type Module = Vec<String>;

/// What one file says.
#[derive(Default)]
struct Source {
    file: String,
    /// The imported names: their paths, and whether they are re-exported.
    names: BTreeMap<String, (Vec<String>, bool)>,
    /// All paths in the file, imports included.
    paths: Vec<Vec<String>>,
}

struct Crate(BTreeMap<Module, Source>);

impl Crate {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        let mut folders: Vec<PathBuf> = vec![root.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
                    files.push((name, fs::read_to_string(&path).expect("text")));
                }
            }
        }
        Self::of(files)
    }

    fn of(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut modules = BTreeMap::new();
        for (file, text) in files {
            let inner = file.trim_start_matches("src/").trim_end_matches(".rs");
            let mut module: Module = inner.split('/').map(str::to_owned).collect();
            if module.iter().any(|name| name == "tests") || inner == "main" {
                continue;
            }
            if module.last().is_some_and(|name| name == "mod" || inner == "lib") {
                module.pop();
            }
            modules.insert(module, Source::parse(file, &text));
        }
        Self(modules)
    }

    fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (module, source) in &self.0 {
            let found = imports.entry(source.file.clone()).or_default();
            for path in &source.paths {
                if let Some((target, name)) = self.resolve(module, path)
                    && target != source.file
                {
                    found.entry(target).or_default().insert(name);
                }
            }
        }
        imports
    }

    /// Returns the file that defines the item of a path in `module`, and the item. `None` if it is a module or of
    /// another crate.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<(String, String)> {
        let (mut module, mut rest) = self.start(module, path)?;
        while let Some((name, after)) = rest.split_first() {
            let child = [&module[..], std::slice::from_ref(name)].concat();
            if self.0.contains_key(&child) {
                (module, rest) = (child, after);
                continue;
            }
            let source = &self.0[&module];
            return match source.names.get(name) {
                Some((from, true)) if from.len() > 1 => {
                    let whole = [&from[..], after].concat();
                    // Something of another crate is used as if it were defined here.
                    self.resolve(&module, &whole).or_else(|| Some((source.file.clone(), name.clone())))
                }
                _ => Some((source.file.clone(), name.clone())),
            };
        }
        None
    }

    /// Returns the module at which a path starts, and the rest of the path.
    fn start<'a>(&self, module: &[String], path: &'a [String]) -> Option<(Module, &'a [String])> {
        let (first, mut rest) = path.split_first()?;
        let mut start = module.to_vec();
        match first.as_str() {
            "crate" => start.clear(),
            "self" => {}
            "super" => {
                start.pop();
                while let Some(("super", after)) = rest.split_first().map(|(name, after)| (name.as_str(), after)) {
                    start.pop();
                    rest = after;
                }
            }
            name => {
                start.push(name.to_owned());
                if !self.0.contains_key(&start) {
                    let (import, _) = self.0.get(module)?.names.get(name)?;
                    // An imported module: the item of the import itself has been counted.
                    return if import[0] == *name {
                        None
                    } else {
                        self.imported_module(module, import).map(|module| (module, rest))
                    };
                }
            }
        }
        self.0.contains_key(&start).then_some((start, rest))
    }

    fn imported_module(&self, module: &[String], path: &[String]) -> Option<Module> {
        let (mut start, rest) = self.start(module, path)?;
        start.extend_from_slice(rest);
        self.0.contains_key(&start).then_some(start)
    }
}

impl Source {
    fn parse(file: String, text: &str) -> Self {
        let mut source = Self { file, ..Self::default() };
        let tokens = without_tests(&tokens(text));
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].as_str() {
                // `pub(in crate::x)` imports nothing.
                "in" if at > 1 && tokens[at - 1] == "(" && tokens[at - 2] == "pub" => at = end(&tokens, at, ")"),
                "use" if tokens.get(at + 1).is_some_and(|next| next != "<") => {
                    let is_public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                    let end = end(&tokens, at, ";");
                    source.add_tree(&tokens[at + 1..end], &[], is_public);
                    at = end;
                }
                first if is_name(first) && (at == 0 || tokens[at - 1] != "::") => {
                    let mut path = vec![first.to_owned()];
                    while tokens.get(at + 1).is_some_and(|token| token == "::")
                        && tokens.get(at + 2).is_some_and(|token| is_name(token))
                    {
                        path.push(tokens[at + 2].clone());
                        at += 2;
                    }
                    if path.len() > 1 {
                        source.paths.push(path);
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
        source
    }

    /// Adds the imports of a tree such as `a::{self, b::C as D}` below `prefix`.
    fn add_tree(&mut self, tree: &[String], prefix: &[String], is_public: bool) {
        let mut path = prefix.to_vec();
        for (at, token) in tree.iter().enumerate() {
            match token.as_str() {
                "::" => {}
                "{" => {
                    let (mut depth, mut start) = (0, at + 1);
                    for (at, token) in tree.iter().enumerate().skip(at) {
                        depth += i32::from(token == "{") - i32::from(token == "}");
                        if (depth == 1 && token == ",") || depth == 0 {
                            self.add_tree(&tree[start..at], &path, is_public);
                            start = at + 1;
                        }
                    }
                    return;
                }
                "as" => {
                    self.add(path, tree[at + 1].clone(), is_public);
                    return;
                }
                // `a::{self}` is `a`.
                "self" if !path.is_empty() => {}
                _ => path.push(token.clone()),
            }
        }
        if let Some(name) = path.last().filter(|_| !tree.is_empty()).cloned() {
            self.add(path, name, is_public);
        }
    }

    fn add(&mut self, path: Vec<String>, name: String, is_public: bool) {
        self.paths.push(path.clone());
        self.names.insert(name, (path, is_public));
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Returns the position of the first `token` from `at` on.
fn end(tokens: &[String], at: usize, token: &str) -> usize {
    tokens[at..].iter().position(|found| found == token).map_or(tokens.len(), |more| at + more)
}

/// Removes the items under `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        if !rest.iter().take(7).map(String::as_str).eq(["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(token.clone());
            rest = after;
            continue;
        }
        let mut depth = 0;
        let length = rest[7..].iter().position(|token| {
            depth += i32::from(token == "{") - i32::from(token == "}");
            depth == 0 && (token == ";" || token == "}")
        });
        rest = &rest[length.map_or(rest.len(), |length| 7 + length + 1)..];
    }
    kept
}

/// Splits Rust into names, `::` and single characters, without comments, strings, characters and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            let mut after = rest.chars().skip(1);
            let (second, third) = (after.next(), after.next());
            if second == Some('\\') || third == Some('\'') { quoted(rest, '\'') } else { 1 + name(&rest[1..]) }
        } else if is_name(rest) {
            let length = name(rest);
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn name(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// Returns the length of a literal that begins at `text`.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let is_end = *c == quote && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Returns the length of a raw string that begins at `text`, if one does.
fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    let inner = inner[hashes..].strip_prefix('"')?;
    let end = inner.find(&format!("\"{}", "#".repeat(hashes)))?;
    Some(text.len() - inner.len() + end + 1 + hashes)
}
