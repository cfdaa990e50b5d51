//! The house rules that no compiler checks.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `folder` with this ending, and its text; paths as from the root.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    // Bounded by the tree.
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let text = fs::read_to_string(&path).expect("source is UTF-8");
                let name = path.strip_prefix(root()).expect("it lies under the root");
                found.push((name.to_string_lossy().replace('\\', "/"), text));
            }
        }
    }
    found.sort();
    found
}

/// All Rust source of the workspace.
fn all_sources() -> Vec<(String, String)> {
    [
        "src",
        "tests",
        "examples",
        "benches",
        "sim/src",
        "sim/tests",
        "sim/examples",
        "sim/benches",
        "sim/tripwire",
    ]
    .into_iter()
    .flat_map(|folder| files(folder, "rs"))
    .collect()
}

/// The text without its comments. Good enough: no string in this repository holds a comment's beginning but URLs.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| match line.trim_start().starts_with("//") {
        true => "",
        false => line.split(" // ").next().unwrap_or_default(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

/// The `use` declarations of a file, test modules not included.
fn uses(text: &str) -> String {
    let code = code(text);
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = String::new();
    let mut inside = false;
    for line in code.lines() {
        let line = line.trim();
        inside |=
            line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
        if inside {
            found.push_str(line);
            found.push('\n');
            inside = !line.ends_with(';');
        }
    }
    found
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("tests.rs") || path.starts_with("tests/")
}

/// Checks `holds` of every file and says which break it.
fn check(rule: &str, files: &[(String, String)], mut breaks: impl FnMut(&str, &str) -> Vec<String>) {
    assert!(!files.is_empty(), "{rule}: there is nothing to check");
    let mut broken = Vec::new();
    for (path, text) in files {
        broken.extend(breaks(path, text).into_iter().map(|what| format!("{path}: {what}")));
    }
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn pure_files_name_no_clock_socket_task_or_lock() {
    let pure = |path: &str| {
        let files = [
            "src/backoff.rs",
            "src/tls/sessions/shelf.rs",
            "src/http/h2/bdp.rs",
            "src/http/h2/keepalive.rs",
            "src/http/pool/shard.rs",
            "src/http/pool/host.rs",
            "src/http/pool/line.rs",
            "src/http/pool/ending.rs",
            "src/http/pool/rules.rs",
        ];
        path.starts_with("src/websocket/session/") || files.contains(&path)
    };
    let mut sources = files("src", "rs");
    sources.retain(|(path, _)| pure(path) && !is_test(path));
    assert!(sources.len() >= 12, "the pure files have moved");
    let banned =
        ["tokio", "Tokio", "Instant", "SystemTime", "async", "await", "Mutex", "RwLock", "thread", "spawn"];
    check("pure files decide and do nothing else", &sources, |_, text| {
        let code = code(text);
        let found: BTreeSet<_> = words(&code).filter(|word| banned.contains(word)).collect();
        found.into_iter().map(str::to_owned).collect()
    });
}

#[test]
fn unsafe_code_is_in_the_interposer_alone() {
    let mut sources = all_sources();
    let before = sources.len();
    sources.retain(|(path, _)| path != "sim/tripwire/src/interpose.rs" && path != "tests/tidy.rs");
    assert_eq!(sources.len() + 2, before, "the interposer has moved");
    check("nothing else is unsafe", &sources, |_, text| {
        let code = code(text);
        words(&code).filter(|word| *word == "unsafe").map(str::to_owned).collect()
    });
}

#[test]
fn layers_import_only_lower_ones() {
    // By file: the modules of this crate it must not import.
    let shell = ["driver", "link", "shared", "dial", "upgrade", "frame"];
    let facade = ["connection", "handle", "guard", "stream", "client"];
    let words_files =
        ["error", "websocket/message", "websocket/config", "websocket/protocol", "websocket/event"];
    let sources = files("src", "rs");
    let mut checked = 0;
    check("layers import only lower ones", &sources, |path, text| {
        if is_test(path) {
            return Vec::new();
        }
        let place = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
        let is_session = place.starts_with("websocket/session");
        let banned: Vec<&str> = if words_files.contains(&place) {
            [shell.as_slice(), &facade, &["session"]].concat()
        } else if is_session || place == "backoff" {
            [shell.as_slice(), &facade].concat()
        } else if shell
            .iter()
            .any(|shell| place == *shell || place.starts_with(&format!("websocket/{shell}")))
        {
            facade.to_vec()
        } else if place.starts_with("websocket/handlers") {
            [shell.as_slice(), &facade, &["session"]].concat()
        } else {
            return Vec::new();
        };
        checked += 1;
        // A module is imported as `self::`, `super::` or `crate::` and its name followed by a path.
        let uses = uses(text);
        banned
            .into_iter()
            .filter(|module| {
                let own = place.rsplit('/').any(|part| part == *module);
                !own && uses.match_indices(&format!("{module}::")).any(|(at, _)| {
                    let before = &uses[..at];
                    // Not the tail of a longer name, and not of another crate.
                    let boundary = before.ends_with([' ', '{', ':', '\n', ',']);
                    let foreign = ["bytes::", "tungstenite::", "futures_util::", "tokio::", "std::"];
                    boundary && !foreign.iter().any(|name| before.ends_with(name))
                })
            })
            .map(str::to_owned)
            .collect()
    });
    assert!(checked >= 15, "the layers have moved: {checked} files checked");
}

#[test]
fn websocket_and_http_never_import_each_other() {
    check("websocket and http never import each other", &files("src", "rs"), |path, text| {
        let uses = uses(text);
        let other = match () {
            () if path.starts_with("src/websocket") => "http",
            () if path.starts_with("src/http") => "websocket",
            () => return Vec::new(),
        };
        let imports = uses.contains(&format!("crate::{other}"))
            || uses
                .lines()
                .any(|line| line.starts_with(&format!("{other}::")) && !path.starts_with("src/websocket"));
        if imports { vec![format!("imports {other}")] } else { Vec::new() }
    });
}

#[test]
fn only_the_facade_names_the_production_environment() {
    let facade = ["src/websocket/connection.rs", "src/websocket/client.rs"];
    check("env::Tokio is named by the facade alone", &files("src", "rs"), |path, text| {
        if facade.contains(&path)
            || path.starts_with("src/env/")
            || path == "src/http/client.rs"
            || is_test(path)
        {
            return Vec::new();
        }
        let named = code(text).contains("env::Tokio");
        if named { vec!["names env::Tokio".to_owned()] } else { Vec::new() }
    });
}

#[test]
fn only_one_file_touches_the_real_world() {
    let real =
        ["Instant::now", "SystemTime", "TcpStream", "lookup_host", "tokio::time", "getrandom", "spawn("];
    check("the real world is touched in env/tokio.rs alone", &files("src", "rs"), |path, text| {
        if path.starts_with("src/env/") || is_test(path) {
            return Vec::new();
        }
        let code = code(text);
        let tests = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
        real.iter()
            .filter(|name| code[..tests].contains(**name))
            // `env.spawn` is the seam itself, and `outside` its erased form.
            .filter(|name| {
                let count = |word| code[..tests].matches(word).count();
                let seam = count("env.spawn(") + count("outside.spawn(") + count("fn spawn(");
                **name != "spawn(" || count("spawn(") > seam
            })
            .map(|name| (*name).to_owned())
            .collect()
    });
}

#[test]
fn every_select_is_biased() {
    check("select! without `biased;` draws from a global counter", &all_sources(), |path, text| {
        if path == "tests/tidy.rs" {
            return Vec::new();
        }
        let code = code(text);
        code.match_indices("select!")
            .filter(|(at, _)| {
                let body = code[at + "select!".len()..].trim_start().trim_start_matches(['{', '(']);
                !body.trim_start().starts_with("biased;")
            })
            .map(|(at, _)| format!("line {}", code[..at].lines().count()))
            .collect()
    });
}

#[test]
fn no_file_is_longer_than_600_lines() {
    let mut sources = files("src", "rs");
    sources.extend(files("sim/src", "rs"));
    check("a file of over 600 lines does too much", &sources, |_, text| {
        let lines = text.lines().count();
        if lines > 600 { vec![format!("{lines} lines")] } else { Vec::new() }
    });
}

#[test]
fn nothing_is_left_to_do_or_ignored() {
    // In two parts, so that this file doesn't hold them.
    let banned = [["#[ign", "ore"], ["todo", "!("], ["unimpl", "emented!("], ["FIX", "ME"], ["dbg", "!("]];
    check("what is left to do is not left in the code", &all_sources(), |_, text| {
        let found = banned.iter().map(|parts| parts.concat()).filter(|word| text.contains(word.as_str()));
        found.collect()
    });
}

#[test]
fn snapshots_are_short_enough_to_be_read() {
    check("a snapshot is at most 80 lines", &files("snapshots", "snap"), |_, text| {
        // Behind the head that insta writes.
        let lines = text.splitn(3, "---").nth(2).unwrap_or(text).trim().lines().count();
        if lines > 80 { vec![format!("{lines} lines")] } else { Vec::new() }
    });
}

/// The rows of a table of `docs/COVERAGE.md`: first cell, and the rest.
fn coverage() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/COVERAGE.md")).expect("docs/COVERAGE.md is there");
    let rows = text.lines().filter_map(|line| {
        let (first, rest) = line.strip_prefix("| ")?.split_once(" |")?;
        (!first.starts_with("--")).then(|| (first.trim().trim_matches('`').to_owned(), rest.to_owned()))
    });
    rows.collect()
}

/// What a row names between backticks.
fn named(cells: &str) -> Vec<String> {
    cells.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn row<'a>(rows: &'a [(String, String)], name: &str) -> Option<&'a str> {
    rows.iter()
        .find(|(first, _)| first == name || first.starts_with(&format!("{name} ")))
        .map(|(_, rest)| &**rest)
}

#[test]
fn every_test_and_file_named_in_coverage_exists() {
    let mut functions = BTreeSet::new();
    for (_, text) in all_sources() {
        functions
            .extend(text.split("fn ").skip(1).filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
    }
    let mut missing = Vec::new();
    for (first, cells) in coverage() {
        for name in named(&cells) {
            let exists = match name.contains('/') {
                true => root().join(&name).is_file(),
                false => functions.contains(&name),
            };
            if !exists {
                missing.push(format!("{first}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/COVERAGE.md names what isn't there:\n{}", missing.join("\n"));
}

/// Put off, with a reason in their row.
const LATER: [&str; 2] = ["WS-7", "WS-L6"];

#[test]
fn every_invariant_has_a_test() {
    let mut ids: Vec<String> = (1..=18).map(|number| format!("WS-{number}")).collect();
    ids.extend((1..=6).map(|number| format!("WS-L{number}")));
    ids.extend((1..=21).map(|number| format!("P-{number}")));
    ids.extend((1..=14).map(|number| format!("K-{number}")));
    ids.extend((1..=8).map(|number| format!("T-{number}")));
    ids.extend((1..=5).map(|number| format!("M-{number}")));
    let rows = coverage();
    for id in ids {
        let cells = row(&rows, &id).unwrap_or_else(|| panic!("docs/COVERAGE.md has no row for {id}"));
        if LATER.contains(&id.as_str()) && cells.contains("later: ") {
            continue;
        }
        assert!(!named(cells).is_empty(), "no test is named for {id}");
    }
}

#[test]
fn every_known_failure_mode_has_a_test_of_its_name() {
    let rows = coverage();
    for number in (1..=12).chain([14, 15]) {
        let name = format!("failure mode {number:02}");
        let cells = row(&rows, &name).unwrap_or_else(|| panic!("docs/COVERAGE.md has no row for {name}"));
        let prefix = format!("failure_mode_{number:02}_");
        assert!(named(cells).iter().any(|test| test.starts_with(&prefix)), "no test is named for {name}");
    }
}

#[test]
fn every_public_method_has_a_test() {
    let types = [
        ("Connection", "src/websocket/connection.rs"),
        ("ConnectionHandle", "src/websocket/handle.rs"),
        ("ConnectionStream", "src/websocket/stream.rs"),
        ("SubscriptionGuard", "src/websocket/guard.rs"),
        ("WsClient", "src/websocket/client.rs"),
    ];
    let rows = coverage();
    let mut methods = 0;
    let mut missing = Vec::new();
    for (name, path) in types {
        let text = fs::read_to_string(root().join(path)).expect("the type lives there");
        let public = text.split("\n    pub ").skip(1).filter_map(|rest| {
            let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
            Some(rest.split(['(', '<']).next()?.to_owned())
        });
        for method in public {
            methods += 1;
            let row = row(&rows, &format!("{name}::{method}"));
            if row.is_none_or(|cells| named(cells).is_empty()) {
                missing.push(format!("{name}::{method}"));
            }
        }
    }
    assert!(methods >= 50, "the types have moved: {methods} methods found");
    assert!(missing.is_empty(), "docs/COVERAGE.md names no test for:\n{}", missing.join("\n"));
}
