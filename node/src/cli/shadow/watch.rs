//! `antumbra shadow watch [DEVICE…]`.

use antumbra_proto::v1::WatchShadowsRequest;
use antumbra_proto::v1::watch_shadows_response::Event;
use antumbra_shadow::json::Value;
use tonic::Status;

use crate::cli::Context;
use crate::cli::connect::ClientArgs;
use crate::cli::output::{Format, object, print_event, string};
use crate::cli::problem::Problem;

use super::render;

/// Print the current shadows and then every change, until interrupted
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: antumbra shadow watch lamp-1
With -o json each event is one line; resume after the last one you have seen with --cursor.")]
pub(crate) struct Args {
    /// Device ids; none means all devices of the tenant
    devices: Vec<String>,
    /// All devices whose id starts with this
    #[arg(long, conflicts_with = "devices")]
    prefix: Option<String>,
    /// Only changes after this cursor, instead of the current shadows first
    #[arg(long)]
    cursor: Option<String>,
    /// End after this many shadows and changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print signs of life too
    #[arg(long)]
    bookmarks: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub(crate) async fn run(args: &Args, context: &Context) -> Result<(), Problem> {
    let mut client = args.client.connect(context).await?;
    // No deadline: a watch runs until it is ended.
    let request = client.stream(WatchShadowsRequest {
        tenant: client.tenant(),
        device_ids: args.devices.clone(),
        device_id_prefix: args.prefix.clone().unwrap_or_default(),
        cursor: args.cursor.clone().unwrap_or_default(),
    });
    let mut cursor = args.cursor.clone().unwrap_or_default();
    let opened = client.shadows.watch_shadows(request).await;
    let mut events = opened
        .map_err(|status| broken(&status, &cursor))?
        .into_inner();
    let mut left = args.count;
    while left != Some(0) {
        let message = events
            .message()
            .await
            .map_err(|status| broken(&status, &cursor))?;
        let Some(message) = message else {
            return Err(broken(
                &Status::unavailable("the server ended the watch"),
                &cursor,
            ));
        };
        let Some(event) = message.event else { continue };
        let counts = matches!(event, Event::Document(_) | Event::Change(_));
        show(args, client.format, &event, &message.cursor);
        if !message.cursor.is_empty() {
            cursor = message.cursor;
        }
        if counts {
            left = left.map(|left| left - 1);
        }
    }
    Ok(())
}

fn show(args: &Args, format: Format, event: &Event, cursor: &str) {
    let (kind, value, line) = match event {
        Event::Document(shadow) => (
            "document",
            render::shadow_value(shadow, ""),
            render::document_line(shadow),
        ),
        Event::Change(change) => (
            "change",
            render::change_value(change),
            render::change_line(change),
        ),
        Event::Synced(_) => (
            "synced",
            Value::Null,
            "-- these are all; changes follow".to_owned(),
        ),
        Event::Reset(reset) => (
            "reset",
            string(reset.reason.clone()),
            format!(
                "-- start over ({}): the current shadows follow",
                reset.reason
            ),
        ),
        Event::Bookmark(_) if !args.bookmarks => return,
        Event::Bookmark(_) => ("bookmark", Value::Null, "-- complete up to now".to_owned()),
    };
    let value = object([
        ("event", string(kind)),
        ("cursor", string(cursor)),
        (kind, value),
    ]);
    print_event(format, &value, || line);
}

/// A watch that broke off can go on where it was.
fn broken(status: &Status, cursor: &str) -> Problem {
    let problem = Problem::from_status("the watch broke off", status);
    if cursor.is_empty() {
        problem
    } else {
        problem.try_this(format!("--cursor {cursor}"))
    }
}
