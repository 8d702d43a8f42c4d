//! What will happen, and a wait until it has.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use antumbra_proto::cluster::v1::{GetStatusRequest, GetStatusResponse, Step};
use antumbra_shadow::json::Value;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::sleep;

use crate::cli::Context;
use crate::cli::connect::Client;
use crate::cli::output::{number, object, print_value, string, table};
use crate::cli::problem::{Exit, Problem};

/// How often the cluster is asked how far it is.
const INTERVAL: Duration = Duration::from_millis(500);
/// Questions in a row that may fail: the node that is asked may be the one that goes.
const FAILURES_MAX: u32 = 20;
/// Questions after which what has not begun will not: the node that is asked may know it late.
const PATIENCE: u32 = 20;

/// What is waited for.
pub(super) struct Goal {
    /// What happens.
    pub(super) what: String,
    /// What is said at the end.
    pub(super) done: String,
    /// How much is left, as far as a status says.
    pub(super) left: Box<dyn Fn(&GetStatusResponse) -> Seen + Send>,
}

/// What a status says of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is not under way: not yet, or not any more.
    NotBegun,
    /// So much is left; at 0 it is done.
    Left(u32),
}

/// Prints the steps to come.
pub(super) fn show(client: &Client, steps: &[Step], dry_run: bool) {
    let value = object([
        ("dry_run", Value::Bool(dry_run)),
        ("steps", Value::Array(steps.iter().map(value).collect())),
    ]);
    print_value(client.format, &value, || text(steps, dry_run));
}

fn value(step: &Step) -> Value {
    let name = |name: &str| match name.is_empty() {
        true => Value::Null,
        false => string(name.to_owned()),
    };
    object([
        ("shard", number(step.shard.into())),
        ("from", name(&step.from)),
        ("to", name(&step.to)),
        ("leader", name(&step.leader)),
    ])
}

fn text(steps: &[Step], dry_run: bool) -> String {
    if steps.is_empty() {
        return "nothing has to move\n".to_owned();
    }
    let rows = steps.iter().map(|step| {
        let what = match (step.from.as_str(), step.to.as_str()) {
            ("", "") => format!("{} should lead", step.leader),
            ("", to) => format!("a replica comes to {to}"),
            (from, "") => format!("the replica on {from} goes"),
            (from, to) => format!("a replica moves from {from} to {to}"),
        };
        vec![step.shard.to_string(), what]
    });
    let header = match dry_run {
        true => "what would happen",
        false => "what happens",
    };
    table(&["shard", header], rows)
}

/// Asks again and again until it is done. On a terminal with a bar, else with a line for every change.
pub(super) async fn wait(
    client: &mut Client,
    context: &Context,
    goal: Goal,
) -> Result<(), Problem> {
    let bar = bar(context);
    let (mut all, mut last, mut failures, mut idle) = (0, None, 0, 0);
    loop {
        let request = client.request(GetStatusRequest {});
        let status = match client.cluster.get_status(request).await {
            Ok(status) => status.into_inner(),
            Err(status) => {
                failures += 1;
                if failures > FAILURES_MAX {
                    let problem = Problem::from_status("cannot see how far it is", &status);
                    return Err(problem.try_this("another --endpoint: what was begun goes on"));
                }
                sleep(INTERVAL).await;
                continue;
            }
        };
        failures = 0;
        match (goal.left)(&status) {
            Seen::Left(0) => break,
            Seen::Left(left) => {
                all = all.max(left);
                idle = 0;
                if last.replace(left) != Some(left) {
                    tell(bar.as_ref(), &goal.what, all, left);
                }
            }
            Seen::NotBegun => {
                idle += 1;
                if idle > PATIENCE {
                    return Err(Problem::new(Exit::Conflict, "it was called off")
                        .why(&goal.what)
                        .try_this("`antumbra cluster nodes` to see what the cluster does"));
                }
            }
        }
        sleep(INTERVAL).await;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    eprintln!("{}", goal.done);
    Ok(())
}

fn tell(bar: Option<&ProgressBar>, what: &str, all: u32, left: u32) {
    match bar {
        Some(bar) => {
            bar.set_length(all.into());
            bar.set_position((all - left).into());
            bar.set_message(what.to_owned());
        }
        None => eprintln!("{what}: {left} left"),
    }
}

/// Nothing where nobody watches.
fn bar(context: &Context) -> Option<ProgressBar> {
    if !stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    let bars = match context.color {
        true => "{bar:40.cyan}",
        false => "{bar:40}",
    };
    let template = format!("{{elapsed:>4}} {bars} {{pos}}/{{len}}  {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(INTERVAL);
    Some(bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_words() {
        let step = |from: &str, to: &str, leader: &str| Step {
            shard: 3,
            from: from.into(),
            to: to.into(),
            leader: leader.into(),
        };
        let steps = [
            step("a", "b", ""),
            step("", "b", ""),
            step("a", "", ""),
            step("", "", "c"),
        ];
        let told = text(&steps, true);
        for part in [
            "what would happen",
            "a replica moves from a to b",
            "a replica comes to b",
            "the replica on a goes",
            "c should lead",
        ] {
            assert!(told.to_lowercase().contains(part), "no `{part}` in\n{told}");
        }
        assert_eq!(text(&[], false), "nothing has to move\n");
    }
}
