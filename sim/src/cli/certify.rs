//! The certificate: the same seed is the same run in every process.
//!
//! Each seed runs twice, each time in a fresh process of this very program, which prints its trace (`cargo sim trace`). The
//! digests must be equal; where they are not, the traces tell where the runs parted.

use std::{
    env, fmt, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::AtomicBool,
};

use super::{args::Certify, failure::write_file};

/// A run as its process told it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    lines: Vec<String>,
    /// The semantic digest and that of the frames.
    digests: (String, String),
}

/// Runs the seeds, prints a line for each and the difference of those that differ. Returns the exit code.
pub(super) fn certify(task: &Certify) -> u8 {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("error: this program can't be found again: {error}");
            return 2;
        }
    };
    let (mut equal, mut different, mut broken) = (0, 0, 0);
    let never = AtomicBool::new(false);
    let twice = |seed| Ok((child(&program, task, seed)?, child(&program, task, seed)?));
    super::pool::in_order(task.seeds.clone(), task.jobs, &never, twice, |seed, told: Result<_, String>| {
        match told {
            Err(text) => {
                broken += 1;
                println!("seed {seed:>6}  BROKEN   {text}");
            }
            Ok((first, second)) => match Difference::of(&first, &second) {
                None => {
                    equal += 1;
                    let (semantic, frames) = &first.digests;
                    println!("seed {seed:>6}  equal  {:>6} entries  {semantic}-{frames}", first.lines.len());
                }
                Some(difference) => {
                    different += 1;
                    println!("seed {seed:>6}  DIFFERS  {difference}");
                    keep(&task.out, seed, [&first, &second]);
                }
            },
        }
    });
    println!("\n{equal} seeds equal in two processes, {different} differ, {broken} broken");
    println!("{}", if different + broken == 0 { "GREEN" } else { "RED" });
    u8::from(different + broken > 0)
}

/// Runs one seed in a process of its own.
fn child(program: &Path, task: &Certify, seed: u64) -> Result<Told, String> {
    let mut command = Command::new(program);
    command.args(["trace".to_owned(), format!("SEED={seed}")]).args(task.setup.args());
    if task.canary {
        command.arg("CANARY=yes");
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("it can't start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A red run has a trace too, and must be the same run twice.
    Told::read(&text).ok_or_else(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("its process ended with {}: {}", output.status, errors.trim())
    })
}

/// Both traces as files, so that they can be compared at length.
fn keep(out: &str, seed: u64, traces: [&Told; 2]) {
    for (told, name) in traces.into_iter().zip(["first", "second"]) {
        let path = PathBuf::from(out).join(format!("seed-{seed}.{name}.trace"));
        match write_file(&path, &(told.lines.join("\n") + "\n")) {
            Ok(()) => println!("  {name} trace: {}", path.display()),
            Err(text) => println!("  {name} trace: not written, {text}"),
        }
    }
}

impl Told {
    /// Takes the last line for the digest; `None` if it isn't.
    fn read(text: &str) -> Option<Self> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let last = lines.pop()?;
        let (semantic, frames) = last.strip_prefix(DIGEST)?.split_once('-')?;
        Some(Self { lines, digests: (semantic.to_owned(), frames.to_owned()) })
    }
}

/// Prints a run for [`Told::read`] of another process: a line for each entry, and the digest.
pub(super) fn tell(report: &crate::Report) -> io::Result<()> {
    use io::Write;

    let mut out = io::BufWriter::new(io::stdout().lock());
    for entry in report.entries() {
        writeln!(out, "{}", crate::trace::whole_line(entry))?;
    }
    writeln!(out, "{DIGEST}{}", report.digests())?;
    out.flush()
}

/// Where two runs of one seed parted. Its `Display` is the report.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    /// Which digests differ.
    digests: Vec<&'static str>,
    /// The first entry that differs, counted from 0; `None` if the digests differ and the entries don't.
    entry: Option<usize>,
    /// Entries before it, equal in both.
    before: Vec<String>,
    /// That entry and those after it, of each run.
    sides: [Vec<String>; 2],
}

impl Difference {
    fn of(first: &Told, second: &Told) -> Option<Self> {
        let semantic = (first.digests.0 != second.digests.0).then_some("semantic");
        let frames = (first.digests.1 != second.digests.1).then_some("frame");
        let digests: Vec<&str> = semantic.into_iter().chain(frames).collect();
        if digests.is_empty() {
            return None;
        }
        let most = first.lines.len().max(second.lines.len());
        let entry = (0..most).find(|index| first.lines.get(*index) != second.lines.get(*index));
        let Some(index) = entry else {
            return Some(Self { digests, entry, before: Vec::new(), sides: Default::default() });
        };
        let from = index.saturating_sub(CONTEXT);
        let after = |told: &Told| told.lines.iter().skip(index).take(1 + CONTEXT).cloned().collect();
        let before = first.lines[from..index].to_vec();
        Some(Self { digests, entry, before, sides: [after(first), after(second)] })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in the {} digest", self.digests.join(" and the "))?;
        let Some(index) = self.entry else {
            return writeln!(f, ", though every entry is equal");
        };
        writeln!(f, "; the first entry that differs is number {}", index + 1)?;
        for line in &self.before {
            writeln!(f, "        | {line}")?;
        }
        for (side, name) in self.sides.iter().zip(["first", "second"]) {
            writeln!(f, "  the {name} process:")?;
            if side.is_empty() {
                writeln!(f, "        > its trace ends here")?;
            }
            for (line, mark) in side.iter().zip(std::iter::once('>').chain(std::iter::repeat('|'))) {
                writeln!(f, "        {mark} {line}")?;
            }
        }
        Ok(())
    }
}

/// Before the digest, on the last line of a trace.
const DIGEST: &str = "digest ";
/// Entries shown before the first that differs, and after it of each side.
const CONTEXT: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: impl IntoIterator<Item = String>, semantic: &str, frames: &str) -> Told {
        let digests = (semantic.to_owned(), frames.to_owned());
        Told { lines: lines.into_iter().collect(), digests }
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("entry {index}")).collect()
    }

    #[test]
    fn equal_traces_have_no_difference() {
        let one = told(numbered(50), "a", "b");
        assert_eq!(Difference::of(&one, &one.clone()), None);
    }

    #[test]
    fn the_first_entry_that_differs_is_named_with_twenty_before_and_after_it() {
        let mut other = numbered(100);
        other[60] = "entry sixty".to_owned();
        other[61] = "entry sixty-one".to_owned();
        let (first, second) = (told(numbered(100), "a", "b"), told(other, "c", "b"));
        let difference = Difference::of(&first, &second).expect("they differ");
        assert_eq!((difference.entry, difference.digests.as_slice()), (Some(60), ["semantic"].as_slice()));
        assert_eq!(difference.before, numbered(100)[40..60]);
        assert_eq!(difference.sides[0], numbered(100)[60..81]);
        let text = difference.to_string();
        for part in ["semantic digest; the first", "number 61", "> entry 60\n", "> entry sixty\n"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert_eq!(text.matches("> ").count(), 2, "{text}");
    }

    #[test]
    fn a_trace_that_ends_early_differs_where_it_ends() {
        let (long, short) = (told(numbered(5), "a", "b"), told(numbered(3), "c", "d"));
        let difference = Difference::of(&long, &short).expect("they differ");
        assert_eq!(difference.entry, Some(3));
        let text = difference.to_string();
        assert!(text.contains("> entry 3\n") && text.contains("> its trace ends here"), "{text}");
        assert!(text.contains("semantic and the frame digest"), "{text}");
    }

    #[test]
    fn a_digest_that_differs_over_equal_entries_is_not_hidden() {
        let (first, second) = (told(numbered(3), "a", "b"), told(numbered(3), "a", "c"));
        let text = Difference::of(&first, &second).expect("they differ").to_string();
        assert!(text.contains("frame digest, though every entry is equal"), "{text}");
    }

    #[test]
    fn what_a_process_tells_ends_with_its_digest() {
        assert_eq!(Told::read("x\ny\ndigest ab-cd\n"), Some(told(["x".into(), "y".into()], "ab", "cd")));
        assert_eq!(Told::read("x\ny\n"), None);
        assert_eq!(Told::read(""), None);
    }
}
