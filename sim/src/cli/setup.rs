//! How runs are made, beside their plan: the keys that every command takes, hands on to the processes it starts, and
//! repeats in each replay command.

use std::fmt;

use super::planted;
use crate::{Backend, Plan, Preset, Simulation, plan::Work};

/// The keys of a setup. A further one is named here, and honoured in [`Setup::draw`] or [`Setup::simulation`].
pub(super) const KEYS: &[&str] = &["PRESET", "WORK", "BACKEND", "BUG"];

/// The words of a command line that are in [`KEYS`]. Its `Display` is those words, each after a space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Setup {
    words: Vec<(&'static str, String)>,
}

impl Setup {
    pub(super) fn new(words: Vec<(&'static str, String)>) -> Self {
        Self { words }
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find(|(other, _)| *other == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn preset(&self) -> Preset {
        // `prepare` has refused the names of none.
        self.value("PRESET").and_then(Preset::named).unwrap_or_default()
    }

    pub(super) fn work(&self) -> Work {
        // `prepare` has refused the names of none.
        self.value("WORK").and_then(Work::named).unwrap_or_default()
    }

    pub(super) fn backend(&self) -> Backend {
        // `prepare` has refused the names of none.
        self.value("BACKEND").and_then(Backend::named).unwrap_or_default()
    }

    /// Checks the values, and does what is done once a process.
    ///
    /// # Errors
    ///
    /// Which value is wrong.
    pub(super) fn prepare(&self) -> Result<(), String> {
        if let Some(name) = self.value("BACKEND")
            && Backend::named(name).is_none()
        {
            let names = Backend::ALL.map(Backend::name).join(" and ");
            return Err(format!("BACKEND={name}: the backends are {names}"));
        }
        if let Some(name) = self.value("PRESET")
            && Preset::named(name).is_none()
        {
            let names = Preset::ALL.map(Preset::name).join(", ");
            return Err(format!("PRESET={name}: the presets are {names}"));
        }
        if let Some(name) = self.value("WORK")
            && Work::named(name).is_none()
        {
            let names = Work::ALL.map(Work::name).join(", ");
            return Err(format!("WORK={name}: the kinds of work are {names}"));
        }
        planted::alive(self.value("BUG"))
    }

    /// The plan of a seed.
    pub(super) fn draw(&self, seed: u64) -> Plan {
        Plan::draw_for(self.work(), self.preset(), seed)
    }

    /// The run of a plan.
    pub(super) fn simulation(&self, plan: Plan) -> Simulation {
        Simulation::of(plan).backend(self.backend())
    }

    /// The words again, for another process.
    pub(super) fn args(&self) -> impl Iterator<Item = String> {
        self.words.iter().map(|(key, value)| format!("{key}={value}"))
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.args().try_for_each(|word| write!(f, " {word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_named_or_refused() {
        let of = |name: &str| Setup::new(vec![("BACKEND", name.to_owned())]);
        assert_eq!(Setup::default().backend(), Backend::Turmoil);
        assert_eq!((of("memory").prepare(), of("memory").backend()), (Ok(()), Backend::Memory));
        let error = of("smoke").prepare().expect_err("there is no such backend");
        assert_eq!(error, "BACKEND=smoke: the backends are turmoil and memory");
    }

    #[test]
    fn a_setup_is_repeated_in_the_replay_command() {
        let words = vec![("BACKEND", "memory".to_owned()), ("BUG", "x".to_owned())];
        assert_eq!(format!("cargo sim SEED=1{}", Setup::new(words)), "cargo sim SEED=1 BACKEND=memory BUG=x");
    }
}
