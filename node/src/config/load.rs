//! Lays defaults, file, environment and flags over each other, later ones winning, and remembers
//! where every value came from. All problems are collected; the first one does not hide the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::Environment;
use super::options::{Config, OptionInfo, SECTIONS, SectionInfo};
use super::setting::Literal;
use super::suggest::closest;
use super::validate::validate;

/// What is laid over the defaults, from the weakest to the strongest.
#[derive(Debug, Default)]
pub struct Sources<'a> {
    /// The configuration file: its path, for messages, and its text.
    pub file: Option<(&'a Path, &'a str)>,
    /// The environment.
    pub environment: Environment,
    /// The command line.
    pub flags: Vec<Override>,
    /// Whether `ANTUMBRA_TEST_…` variables are honoured.
    pub allow_test_switches: bool,
}

/// A value from the command line.
#[derive(Debug, Clone)]
pub struct Override {
    /// `node.data_dir`.
    pub key: String,
    /// As typed.
    pub value: String,
    /// The flag that says so, for messages: `--data-dir`.
    pub flag: &'static str,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A command line flag.
    Flag {
        /// Its name.
        flag: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => f.write_str(variable),
            Self::Flag { flag } => f.write_str(flag),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where the offending value came from.
    pub origin: Origin,
    /// What is wrong.
    pub what: String,
    /// What would be right, if that is known.
    pub try_this: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.what)?;
        match &self.try_this {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with the configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

/// A valid configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Odd, but no reason to refuse.
    pub warnings: Vec<String>,
    origins: Origins,
}

impl Loaded {
    /// Where an option's value came from.
    pub fn origin(&self, section: &str, option: &str) -> Origin {
        origin_of(&self.origins, section, option)
    }

    /// How many options are not at their default.
    pub fn set_count(&self) -> usize {
        self.origins.len()
    }
}

type Origins = BTreeMap<(String, String), Origin>;

/// Loads a configuration, or says everything that is wrong with it.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, Problems> {
    let mut loader = Loader::default();
    if let Some((path, text)) = sources.file {
        loader.file(path, text);
    }
    loader.environment(&sources.environment);
    for flag in &sources.flags {
        loader.flag(flag);
    }
    loader.test_switches(sources);
    loader.finish()
}

#[derive(Default)]
struct Loader {
    config: Config,
    origins: Origins,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Loader {
    fn file(&mut self, path: &Path, text: &str) {
        let line_of = |offset: usize| {
            let before = text.as_bytes().iter().take(offset);
            1 + before.filter(|byte| **byte == b'\n').count()
        };
        let origin = |offset: usize| Origin::File {
            path: path.to_owned(),
            line: line_of(offset),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let at = origin(error.span().map_or(0, |span| span.start));
            self.problem(at, error.message().to_owned(), None);
        }
        for (name, value) in table.get_ref() {
            let at = origin(name.span().start);
            let name: &str = name.get_ref();
            let known = SECTIONS.iter().find(|section| section.name == name);
            match (known, value.get_ref()) {
                (Some(section), DeValue::Table(options)) => {
                    for (option, value) in options {
                        let at = origin(option.span().start);
                        self.file_option(section, option.get_ref(), value, at);
                    }
                }
                (Some(_), _) => {
                    let hint = format!("write `[{name}]` on a line of its own");
                    self.problem(at, format!("`{name}` is a section"), Some(hint));
                }
                (None, _) => self.unknown_section(name, at),
            }
        }
    }

    fn file_option(
        &mut self,
        section: &SectionInfo,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        origin: Origin,
    ) {
        let Some(option) = section.options.iter().find(|option| option.name == name) else {
            return self.unknown_option(section, name, origin);
        };
        match text_of(option, value.get_ref()) {
            Ok(text) => self.set(section.name, name, &text, origin),
            Err(what) => {
                let what = format!("`{}.{name}`: {what}", section.name);
                self.problem(origin, what, None);
            }
        }
    }

    fn environment(&mut self, environment: &Environment) {
        for section in SECTIONS {
            for option in section.options {
                if let Some((variable, value)) = environment.option(section.name, option.name) {
                    let origin = Origin::Environment { variable };
                    self.set(section.name, option.name, value, origin);
                }
            }
        }
        self.config.pod = environment.pod();
        self.problems.extend(environment.unknown());
    }

    fn flag(&mut self, flag: &Override) {
        let origin = Origin::Flag { flag: flag.flag };
        let (name, option) = flag.key.split_once('.').unwrap_or((&flag.key, ""));
        let Some(section) = SECTIONS.iter().find(|section| section.name == name) else {
            return self.unknown_section(name, origin);
        };
        if !section.options.iter().any(|known| known.name == option) {
            return self.unknown_option(section, option, origin);
        }
        self.set(name, option, &flag.value, origin);
    }

    fn test_switches(&mut self, sources: &Sources<'_>) {
        if !sources.allow_test_switches {
            let ignored = sources.environment.test_switch_names();
            let warning = |name: &&str| format!("{name} is set and ignored");
            self.warnings.extend(ignored.iter().map(warning));
            return;
        }
        match sources.environment.test_switches() {
            Ok(switches) => self.config.test_switches = switches,
            Err(problems) => self.problems.extend(problems),
        }
    }

    fn finish(mut self) -> Result<Loaded, Problems> {
        for complaint in validate(&self.config) {
            let (section, option) = complaint.key.split_once('.').unwrap_or((complaint.key, ""));
            let origin = origin_of(&self.origins, section, option);
            let what = format!("`{}` {}", complaint.key, complaint.what);
            self.problem(origin, what, complaint.try_this);
        }
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        Ok(Loaded {
            config: self.config,
            warnings: self.warnings,
            origins: self.origins,
        })
    }

    fn set(&mut self, section: &str, option: &str, text: &str, origin: Origin) {
        match self.config.set(section, option, text) {
            Ok(()) => {
                self.origins
                    .insert((section.to_owned(), option.to_owned()), origin);
            }
            Err(what) => self.problem(origin, format!("`{section}.{option}`: {what}"), None),
        }
    }

    fn unknown_section(&mut self, name: &str, origin: Origin) {
        let names = SECTIONS.iter().map(|section| section.name);
        // An option outside its section is the likelier mistake when it is one by name.
        let home = SECTIONS
            .iter()
            .find(|s| s.options.iter().any(|option| option.name == name));
        let hint = home
            .map(|section| format!("`{name}` belongs under `[{}]`", section.name))
            .or_else(|| closest(name, names.clone()).map(|near| format!("did you mean `{near}`?")))
            .unwrap_or_else(|| format!("sections are {}", names.collect::<Vec<_>>().join(", ")));
        self.problem(origin, format!("there is no section `{name}`"), Some(hint));
    }

    fn unknown_option(&mut self, section: &SectionInfo, name: &str, origin: Origin) {
        let names = section.options.iter().map(|option| option.name);
        let elsewhere = SECTIONS
            .iter()
            .find(|s| s.options.iter().any(|option| option.name == name));
        let hint = elsewhere
            .map(|other| format!("`{name}` belongs under `[{}]`", other.name))
            .or_else(|| {
                let near = closest(name, names.clone())?;
                Some(format!("did you mean `{}.{near}`?", section.name))
            })
            .unwrap_or_else(|| {
                format!(
                    "[{}] has {}",
                    section.name,
                    names.collect::<Vec<_>>().join(", ")
                )
            });
        self.problem(
            origin,
            format!("there is no option `{}.{name}`", section.name),
            Some(hint),
        );
    }

    fn problem(&mut self, origin: Origin, what: String, try_this: Option<String>) {
        self.problems.push(Problem {
            origin,
            what,
            try_this,
        });
    }
}

fn origin_of(origins: &Origins, section: &str, option: &str) -> Origin {
    let key = (section.to_owned(), option.to_owned());
    origins.get(&key).cloned().unwrap_or(Origin::Default)
}

/// The text of a TOML literal, if the option may be written that way.
fn text_of(option: &OptionInfo, value: &DeValue<'_>) -> Result<String, String> {
    let (literal, text) = match value {
        DeValue::String(text) => (Literal::Text, text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => {
            (Literal::Integer, number.as_str().to_owned())
        }
        DeValue::Boolean(value) => (Literal::Boolean, value.to_string()),
        _ => return Err(format!("expected {}", option.kind)),
    };
    if option.literals.contains(&literal) {
        return Ok(text);
    }
    let quotes = match (literal, option.literals) {
        (Literal::Text, _) => " without quotes",
        (_, [Literal::Text]) => " in quotes",
        _ => "",
    };
    Err(format!("`{text}` is not {}{quotes}", option.kind))
}
