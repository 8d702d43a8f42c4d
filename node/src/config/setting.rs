//! The types an option can have: how each is written, read and named in the docs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How a value may be written in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Literal {
    /// `"text"`
    Text,
    /// `42`
    Integer,
    /// `true`
    Boolean,
}

/// A type that an option can have.
///
/// For correctness, `parse` must read back what `show` writes (without the quotes of a TOML
/// string): `config show` and the generated docs rely on it.
pub trait Setting: Sized {
    /// What to call it in docs and errors, with an example: "a duration such as `60s`".
    const KIND: &'static str;
    /// How it may be written in TOML.
    const LITERALS: &'static [Literal];
    /// Reads the text of an environment variable, a flag or a TOML literal.
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes it as a TOML literal.
    fn show(&self) -> String;
}

/// A number of bytes, written `64MiB`, `8KiB` or `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// So many KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// So many MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// So many GiB.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// As a count for memory, saturating where `usize` is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Longest suffix first, so that `KiB` is not read as `B`.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [
            ("TiB", 1 << 40),
            ("GiB", 1 << 30),
            ("MiB", 1 << 20),
            ("KiB", 1 << 10),
        ] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Setting for ByteSize {
    const KIND: &'static str = "a size such as `64MiB` or `8KiB`";
    const LITERALS: &'static [Literal] = &[Literal::Text, Literal::Integer];

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = SIZE_UNITS
            .iter()
            .find(|(name, _)| *name == unit.trim())
            .map(|(_, f)| *f);
        let number = number.parse::<u64>().ok();
        let (Some(number), Some(factor)) = (number, factor) else {
            return Err(format!("`{text}` is not {}", Self::KIND));
        };
        number
            .checked_mul(factor)
            .map(Self)
            .ok_or_else(|| format!("`{text}` is too large"))
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

/// Reads `500ms`, `60s`, `5m`, `24h`, `7d` and sums such as `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not {}", Duration::KIND);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let number = number.parse::<u64>().map_err(|_| wrong())?;
        total_ms = number
            .checked_mul(factor)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(|| format!("`{text}` is too long"))?;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// The shortest spelling that `parse_duration` reads back.
fn show_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    for (unit, factor) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        // A day and a minute read worse than 24h and 60s.
        if ms >= factor
            && ms.is_multiple_of(factor)
            && (ms / factor > 1 || matches!(unit, "h" | "s"))
        {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

impl Setting for Duration {
    const KIND: &'static str = "a duration such as `500ms`, `60s` or `24h`";
    const LITERALS: &'static [Literal] = &[Literal::Text];

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }

    fn show(&self) -> String {
        quoted(&show_duration(*self))
    }
}

impl Setting for String {
    const KIND: &'static str = "text";
    const LITERALS: &'static [Literal] = &[Literal::Text];

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl Setting for PathBuf {
    const KIND: &'static str = "a path";
    const LITERALS: &'static [Literal] = &[Literal::Text];

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        Ok(Self::from(text))
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl Setting for SocketAddr {
    const KIND: &'static str = "an address such as `127.0.0.1:7400` or `[::]:7400`";
    const LITERALS: &'static [Literal] = &[Literal::Text];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is not {}", Self::KIND))
    }

    fn show(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for bool {
    const KIND: &'static str = "`true` or `false`";
    const LITERALS: &'static [Literal] = &[Literal::Boolean];

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is not {}", Self::KIND))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Whole numbers: the same three lines for each width.
macro_rules! whole_number {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            const KIND: &'static str = "a whole number";
            const LITERALS: &'static [Literal] = &[Literal::Integer];

            fn parse(text: &str) -> Result<Self, String> {
                text.trim().replace('_', "").parse().map_err(|_| format!("`{text}` is not {}", Self::KIND))
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
whole_number!(u32, u64);

/// The first nodes of a cluster: names and peer addresses, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seeds(pub BTreeMap<String, String>);

impl Setting for Seeds {
    const KIND: &'static str = "a list such as `node-1=10.0.0.1:7401,node-2=10.0.0.2:7401`";
    const LITERALS: &'static [Literal] = &[Literal::Text];

    fn parse(text: &str) -> Result<Self, String> {
        let mut seeds = BTreeMap::new();
        let parts = text.split(',').map(str::trim);
        for part in parts.filter(|part| !part.is_empty()) {
            let seed = part.split_once('=').map(|(n, a)| (n.trim(), a.trim()));
            let (name, address) = seed
                .filter(|(name, address)| !name.is_empty() && is_host_port(address))
                .ok_or_else(|| format!("`{part}` is not name=host:port; {}", Self::KIND))?;
            if seeds.insert(name.to_owned(), address.to_owned()).is_some() {
                return Err(format!("`{name}` is there twice"));
            }
        }
        Ok(Self(seeds))
    }

    fn show(&self) -> String {
        let seeds = self.0.iter().map(|(name, at)| format!("{name}={at}"));
        quoted(&seeds.collect::<Vec<_>>().join(","))
    }
}

/// Whether a text is a host and a port.
pub(super) fn is_host_port(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// How much memory is for what was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSize {
    /// A share of the memory that the process may use.
    Auto,
    /// So many bytes.
    Bytes(ByteSize),
}

impl Setting for CacheSize {
    const KIND: &'static str = "`auto` or a size such as `64MiB`";
    const LITERALS: &'static [Literal] = ByteSize::LITERALS;

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "auto" {
            return Ok(Self::Auto);
        }
        let bytes = ByteSize::parse(text);
        bytes
            .map(Self::Bytes)
            .map_err(|_| format!("`{text}` is not {}", Self::KIND))
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => quoted("auto"),
            Self::Bytes(bytes) => bytes.show(),
        }
    }
}

/// How many shards a new cluster gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shards {
    /// One led shard per four cores, at least three on a node of its own.
    Auto,
    /// Exactly so many.
    Count(u32),
}

impl Setting for Shards {
    const KIND: &'static str = "`auto` or a whole number";
    const LITERALS: &'static [Literal] = &[Literal::Text, Literal::Integer];

    fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "auto" {
            return Ok(Self::Auto);
        }
        let count = text
            .trim()
            .parse()
            .map_err(|_| format!("`{text}` is not {}", Self::KIND))?;
        Ok(Self::Count(count))
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => quoted("auto"),
            Self::Count(count) => count.to_string(),
        }
    }
}

/// Who decides which nodes belong to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// The list of seeds: nothing joins or leaves.
    Static,
    /// Nodes join by themselves and leave by command.
    Api,
    /// The StatefulSet that the node is a pod of.
    Kubernetes,
}

impl Setting for Membership {
    const KIND: &'static str = "`static`, `api` or `kubernetes`";
    const LITERALS: &'static [Literal] = &[Literal::Text];

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "static" => Ok(Self::Static),
            "api" => Ok(Self::Api),
            "kubernetes" => Ok(Self::Kubernetes),
            _ => Err(format!("`{text}` is not {}", Self::KIND)),
        }
    }

    fn show(&self) -> String {
        quoted(match self {
            Self::Static => "static",
            Self::Api => "api",
            Self::Kubernetes => "kubernetes",
        })
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Setting for LogFormat {
    const KIND: &'static str = "`text` or `json`";
    const LITERALS: &'static [Literal] = &[Literal::Text];

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is not {}", Self::KIND)),
        }
    }

    fn show(&self) -> String {
        quoted(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
