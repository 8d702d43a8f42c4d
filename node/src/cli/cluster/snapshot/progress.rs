//! How far a snapshot has come: a bar where somebody looks, a line per shard where not.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::Context;

/// One bar over the rows of all shards, on standard error.
pub(crate) struct Bar {
    bar: ProgressBar,
    has_terminal: bool,
    verb: &'static str,
}

impl Bar {
    /// Begins; `rows` where it is known how many there will be.
    pub(crate) fn begin(verb: &'static str, rows: Option<u64>, context: &Context) -> Bar {
        let bar = match rows {
            Some(rows) => ProgressBar::new(rows),
            None => ProgressBar::new_spinner(),
        };
        let bars = match (rows, context.color) {
            (None, _) => "{spinner}",
            (Some(_), true) => "{bar:40.cyan} {percent:>3}%",
            (Some(_), false) => "{bar:40} {percent:>3}%",
        };
        let template = format!("{verb} {{elapsed:>4}} {bars} {{pos}} rows  {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Bar {
            bar,
            has_terminal: std::io::stderr().is_terminal(),
            verb,
        }
    }

    /// So many rows more.
    pub(crate) fn rows(&self, rows: u64) {
        self.bar.inc(rows);
    }

    /// Rows that count no more: the shard is begun anew.
    pub(crate) fn take_back(&self, rows: u64) {
        let now = self.bar.position();
        self.bar.set_position(now.saturating_sub(rows));
    }

    /// A shard is done.
    pub(crate) fn shard_done(&self, shard: u32, rows: u64) {
        match self.has_terminal {
            true => self.bar.set_message(format!("shard {shard} done")),
            false => eprintln!("{}: shard {shard} done, {rows} rows", self.verb),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
